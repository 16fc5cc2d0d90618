from web_world import *
import time, json, os
from chatcluster import telemetry


class Steps(trio.abc.Instrument):
    def __init__(self):
        self.worst = 0.0
        self.who = ""
        self.t = 1e9

    def before_task_step(self, task):
        self.t = time.thread_time()

    def after_task_step(self, task):
        d = time.thread_time() - self.t
        if d > self.worst:
            self.worst, self.who = d, task.name


MB = 1 << 20


def fill(head, item, tail, size=MB - 2000):
    n = max(1, (size - len(head) - len(tail)) // (len(item) + 1))
    return head + b",".join([item] * n) + tail


def bodies():
    for item in (b"0", b"{}", b"[]", b'""', b'{"a":0}'):
        yield ("any", item.decode()), fill(b'{"k":[', item, b"]}")
    yield ("any", "nest"), b'{"k":' + b"[" * 400000 + b"]" * 400000 + b"}"
    yield ("any", "keys"), b"{" + b",".join(b'"%x":0' % i for i in range(110000)) + b"}"
    yield ("any", "numbers"), b'{"k":' + b"9" * 900000 + b"}"
    yield ("any", "float"), b'{"k":0.' + b"9" * 900000 + b"}"
    yield ("any", "exp"), fill(b'{"k":[', b"1e308", b"]}")
    yield ("any", "url"), b'{"k":[' + b",".join([b'"url":"'[:-1] + b'"'] * 1) + b"]}"
    yield ("any", "openings"), fill(b'{"k":[', b'{"url":"a"}', b"]}")
    yield ("any", "openings2"), b'{"k":"' + (b'"url":"' * 140000) + b'"}'
    yield ("any", "openings3"), b'{"data":"' + (b"A" * 16000 + b'","data":"') * 60 + b'"}'
    yield ("chats", "content"), fill(b'{"content":[', b'{"type":"text","text":""}', b"]}")
    yield ("chats", "content x"), fill(b'{"content":[', b'{"type":"text","text":"x"}', b"]}")
    yield ("chats", "spaces"), json.dumps({"content": "\u200b" * 300000}).encode()
    yield ("chats", "combining"), json.dumps({"content": "x", "title": "a" + "\u0301" * 300000}).encode()
    yield ("chats", "title spaces"), json.dumps({"content": "a" + " " * 400000}).encode()
    yield ("chats", "combining content"), json.dumps({"content": "a" + "\u0301" * 80000}).encode()
    yield ("chats", "bidi"), json.dumps({"content": "\u202e\u2066" * 40000 + "a"}).encode()
    yield ("chats", "tools"), fill(b'{"content":"x","tools":[', b'{"name":"a","description":"","parameters":{}}', b"]}")
    yield (
        ("chats", "schema"),
        fill(b'{"content":"x","tools":[{"name":"a","description":"","parameters":{"enum":[', b"0", b"]}}]}"),
    )
    yield (
        ("chats", "schema deep"),
        b'{"content":"x","tools":[{"name":"a","description":"","parameters":'
        + b'{"a":' * 500
        + b"{}"
        + b"}" * 500
        + b"}]}",
    )
    yield ("chats", "mcp_servers"), fill(b'{"content":"x","mcp_servers":[', b'"a"', b"]}")
    for c in (
        b'{"role":"user","content":"x"}',
        b'{"role":"assistant","content":"x"}',
        b'{"role":"tool","tool_call_id":"a","content":"x"}',
        b'{"role":"system","content":"x"}',
        b"{}",
    ):
        yield ("messages", c.decode()), fill(b'{"model":"m","messages":[', c, b"]}")
    yield (
        ("messages", "parts"),
        fill(b'{"model":"m","messages":[{"role":"user","content":[', b'{"type":"text","text":"x"}', b"]}]}"),
    )
    yield (
        ("messages", "tool_calls"),
        fill(
            b'{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[',
            b'{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}',
            b"]}]}",
        ),
    )
    yield (
        ("messages", "tools"),
        fill(
            b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[',
            b'{"type":"function","function":{"name":"f","parameters":{}}}',
            b"]}",
        ),
    )
    for c in (
        b'{"role":"user","content":"x"}',
        b'{"type":"function_call_output","call_id":"a","output":"x"}',
        b'{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}',
        b'{"type":"hologram"}',
        b"{}",
    ):
        yield ("input", c.decode()), fill(b'{"model":"m","input":[', c, b"]}")
    yield (
        ("input", "parts"),
        fill(b'{"model":"m","input":[{"role":"user","content":[', b'{"type":"input_text","text":"x"}', b"]}]}"),
    )
    yield (
        ("input", "metadata"),
        b'{"model":"m","input":"x","metadata":{' + b",".join(b'"%x":""' % i for i in range(90000)) + b"}}",
    )
    yield (
        ("input", "tools"),
        fill(b'{"model":"m","input":"x","tools":[', b'{"type":"function","name":"f","parameters":{}}', b"]}"),
    )
    for c in (
        b'{"id":"a","role":"user","content":"x"}',
        b'{"id":"a","role":"tool","toolCallId":"a","content":"x"}',
        b'{"id":"a","role":"assistant","toolCalls":[]}',
    ):
        yield (
            ("agui", c.decode()),
            fill(
                b'{"threadId":"t","runId":"r","state":{},"tools":[],"context":[],"forwardedProps":{},"messages":[',
                c,
                b"]}",
            ),
        )
    yield (
        ("agui", "tools"),
        fill(
            b'{"threadId":"t","runId":"r","state":{},"context":[],"forwardedProps":{},"messages":[{"id":"a","role":"user","content":"x"}],"tools":[',
            b'{"name":"f","description":"","parameters":{}}',
            b"]}",
        ),
    )
    yield (
        ("agui", "context"),
        fill(
            b'{"threadId":"t","runId":"r","state":{},"tools":[],"forwardedProps":{},"messages":[{"id":"a","role":"user","content":"x"}],"context":[',
            b'{"description":"","value":""}',
            b"]}",
        ),
    )
    for c in (
        b'{"id":"a","role":"user","parts":[{"type":"text","text":"x"}]}',
        b'{"id":"a","role":"assistant","parts":[]}',
    ):
        yield ("aisdk", c.decode()), fill(b'{"id":"t","trigger":"submit-message","messages":[', c, b"]}")
    yield (
        ("aisdk", "parts"),
        fill(
            b'{"id":"t","trigger":"submit-message","messages":[{"id":"a","role":"user","parts":[',
            b'{"type":"text","text":"x"}',
            b"]}]}",
        ),
    )
    yield (
        ("aisdk", "data parts"),
        fill(
            b'{"id":"t","trigger":"submit-message","messages":[{"id":"a","role":"user","parts":[',
            b'{"type":"data-x","data":0}',
            b"]}]}",
        ),
    )
    yield (
        ("mcp", "params"),
        fill(
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"create_chat","arguments":{"k":[',
            b"0",
            b"]}}}",
        ),
    )
    yield ("mcp", "batch"), fill(b"[", b'{"jsonrpc":"2.0","id":1,"method":"ping"}', b"]")
    yield ("mcp", "id"), b'{"jsonrpc":"2.0","id":' + b"9" * 100000 + b',"method":"ping"}'


PLACES = {
    "chats": ["/api/v1/chats"],
    "messages": ["/v1/chat/completions"],
    "input": ["/v1/responses", "/v1/conversations"],
    "agui": ["/ag-ui/"],
    "aisdk": ["/ai-sdk/chat"],
    "mcp": ["/mcp/"],
}
ALL = [
    "/api/v1/chats",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/conversations",
    "/ag-ui/",
    "/ai-sdk/chat",
    "/mcp/",
    "/api/v1/admin/mcp-servers",
    "/api/v1/admin/providers",
    "/api/v1/admin/models",
    "/api/v1/workspaces",
    "/api/v1/me/push-subscriptions",
    "/api/v1/session",
]


async def test_bodies(tmp_path):
    told = []

    def listen(n, f):
        if n.endswith("crashed"):
            told.append((n, str(f)))

    telemetry.subscribe(listen)
    try:
        await run_bodies(told)
    finally:
        telemetry.unsubscribe(listen)


async def run_bodies(told):
    out = open("/tmp/harm-bodies.txt", "w")
    async with serving(World()) as world:
        async with client_of(world, admin=True) as client:
            for (kind, what), body in bodies():
                for path in ALL if kind == "any" else PLACES[kind]:
                    steps = Steps()
                    told.clear()
                    status = "?"
                    trio.lowlevel.add_instrument(steps)
                    try:
                        with trio.move_on_after(20):
                            async with client.stream(
                                "POST",
                                path.replace("/api/v1", "" if "/api/v1" in str(client.base_url) else "/api/v1"),
                                content=body,
                                headers={
                                    "content-type": "application/json",
                                    "accept": "application/json, text/event-stream",
                                },
                            ) as r:
                                status = r.status_code
                                async for c in r.aiter_raw():
                                    break
                    except Exception as e:
                        status = repr(e)[:80]
                    trio.lowlevel.remove_instrument(steps)
                    flag = "" if steps.worst < 0.03 and not told and status != 500 else " <<<<"
                    out.write(
                        f"{kind} {what[:50]} {path} {status} worst {steps.worst * 1e3:.0f} ms {steps.who[-60:]} {told[:1]}{flag}\n"
                    )
                    out.flush()
