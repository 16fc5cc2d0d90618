import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { api, readAgain } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Confirm } from "../ui/Dialog.tsx";
import { Choice, FormDialog, Text } from "../ui/FormDialog.tsx";
import { money } from "../ui/money.ts";
import { Empty } from "../ui/Notice.tsx";
import { type Column, Table } from "../ui/Table.tsx";
import { say } from "../ui/Toast.tsx";
import { change } from "./change.ts";
import { Panel } from "./Panel.tsx";

type Limit = Schemas["Limit"];
type Member = Schemas["Member"];

const LIMITS = ["limits"];
const MEMBERS = ["limit-groups"];
const SUBJECTS = { default: "Everybody without a limit of their own", group: "The users of a group", user: "One user" };
const PERIODS = { day: "a day", week: "a week, from Monday", month: "a month" };

type Asked = { what: "limit" | "member" } | { what: "remove"; limit: Limit } | null;

/** How much users may spend, and who is in which group. */
export function Limits() {
  const [asked, ask] = useState<Asked>(null);
  const query = useQuery({
    queryKey: LIMITS,
    queryFn: async () => (await api.get<{ limits: Limit[] }>("/admin/limits")).limits,
  });
  const add = (
    <Button look="main" onClick={() => ask({ what: "limit" })}>
      Set a limit
    </Button>
  );
  const close = () => ask(null);
  return (
    <>
      <section>
        <Panel title="Limits" what="limits" query={query} actions={add} freshMs={60_000}>
          {(limits) =>
            limits.length ? (
              <Table label="Limits" columns={columnsOf(ask)} rows={limits} rowKey={nameOf} />
            ) : (
              <Empty title="No limits">Everybody may spend as much as they like.</Empty>
            )
          }
        </Panel>
      </section>
      <Groups onAdd={() => ask({ what: "member" })} />
      {asked?.what === "limit" && <LimitForm onClose={close} />}
      {asked?.what === "member" && <MemberForm onClose={close} />}
      {asked?.what === "remove" && (
        <Confirm
          title={`Remove the limit of ${nameOf(asked.limit)}?`}
          action="Remove"
          onConfirm={() => void remove(asked.limit)}
          onClose={close}
        >
          What stands behind it counts again: the limit of a group, or that of everybody.
        </Confirm>
      )}
    </>
  );
}

const nameOf = ({ subject, name, period }: Limit) => `${subject === "default" ? "everybody" : name} for a ${period}`;

const remove = (limit: Limit) =>
  change("Remove", `The limit of ${nameOf(limit)} is removed.`, LIMITS, () => {
    const { subject, name, period } = limit;
    return api.delete(`/admin/limits?${new URLSearchParams({ subject, name: name ?? "", period })}`);
  });

const columnsOf = (ask: (asked: Asked) => void): Column<Limit>[] => [
  {
    name: "Who",
    cell: ({ subject, name }) => (
      <span className="foreign">{subject === "default" ? "everybody" : `${subject} ${name}`}</span>
    ),
  },
  { name: "In", cell: ({ period }) => PERIODS[period] },
  { name: "Money", cell: ({ cost_micros }) => (cost_micros == null ? "no limit" : money(cost_micros)), isNumber: true },
  { name: "Tokens", cell: ({ tokens }) => tokens?.toLocaleString() ?? "no limit", isNumber: true },
  {
    name: "",
    cell: (limit) => (
      <Button aria-label={`Remove the limit of ${nameOf(limit)}`} onClick={() => ask({ what: "remove", limit })}>
        Remove
      </Button>
    ),
  },
];

function LimitForm({ onClose }: { onClose: () => void }) {
  const [subject, setSubject] = useState<keyof typeof SUBJECTS>("default");
  const [name, setName] = useState("");
  const [period, setPeriod] = useState<keyof typeof PERIODS>("month");
  const [cost, setCost] = useState("");
  const [tokens, setTokens] = useState("");
  const submit = async () => {
    await api.put("/admin/limits", {
      subject,
      period,
      ...(subject !== "default" && { name: name.trim() }),
      ...(cost && { cost_micros: Math.round(Number(cost) * 1_000_000) }),
      ...(tokens && { tokens: Number(tokens) }),
    });
    say("The limit is set.");
    await readAgain(LIMITS);
  };
  return (
    <FormDialog title="Set a limit" action="Set" onSubmit={submit} onClose={onClose}>
      <Choice label="For" value={subject} options={SUBJECTS} onChange={setSubject} />
      {subject !== "default" && (
        <Text label={subject === "group" ? "Group" : "User"} value={name} onChange={setName} required />
      )}
      <Choice label="In" value={period} options={PERIODS} onChange={setPeriod} />
      <Text
        label="Money"
        hint="In the currency of the prices"
        type="number"
        step="any"
        value={cost}
        onChange={setCost}
      />
      <Text label="Tokens, in and out" type="number" step="1" value={tokens} onChange={setTokens} />
      <p className="text-sm text-soft">What is left empty is not limited. A limit that is there already is replaced.</p>
    </FormDialog>
  );
}

/** Who is in which group. A group is there as long as somebody is in it. */
function Groups({ onAdd }: { onAdd: () => void }) {
  const query = useQuery({
    queryKey: MEMBERS,
    queryFn: async () => (await api.get<{ members: Member[] }>("/admin/groups")).members,
  });
  return (
    <section>
      <Panel
        title="Groups"
        what="groups"
        query={query}
        actions={<Button onClick={onAdd}>Put a user into a group</Button>}
        freshMs={60_000}
      >
        {(members) =>
          members.length ? (
            <Table
              label="Groups"
              columns={MEMBER_COLUMNS}
              rows={members}
              rowKey={({ group, user }) => `${group}\0${user}`}
            />
          ) : (
            <Empty title="Nobody is in a group" />
          )
        }
      </Panel>
    </section>
  );
}

const MEMBER_COLUMNS: Column<Member>[] = [
  { name: "Group", cell: ({ group }) => <span className="foreign">{group}</span> },
  { name: "User", cell: ({ user }) => <span className="foreign">{user}</span> },
  {
    name: "",
    cell: ({ group, user }) => (
      <Button
        aria-label={`Take ${user} out of ${group}`}
        onClick={() =>
          void change("Take out", `${user} is in ${group} no more.`, MEMBERS, () =>
            api.delete(`/admin/groups?${new URLSearchParams({ group, user })}`),
          )
        }
      >
        Take out
      </Button>
    ),
  },
];

function MemberForm({ onClose }: { onClose: () => void }) {
  const [group, setGroup] = useState("");
  const [user, setUser] = useState("");
  const submit = async () => {
    await api.put("/admin/groups", { group: group.trim(), user: user.trim() });
    await readAgain(MEMBERS);
  };
  return (
    <FormDialog title="Put a user into a group" action="Put in" onSubmit={submit} onClose={onClose}>
      <Text label="User" value={user} onChange={setUser} required />
      <Text label="Group" value={group} onChange={setGroup} required />
    </FormDialog>
  );
}
