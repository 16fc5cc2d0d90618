"""Images and files sent by OpenAI's own client, unmodified, to replicas of real processes."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx
import openai
import pytest
from cluster_processes import Cluster
from test_v1_clients import MODEL, client, cluster, in_thread
from test_web_files import picture

__all__ = ["cluster"]

pytestmark = pytest.mark.cluster

LARGEST = (b"x" * 63 + b"\n") * (10 << 14)
"""As large as a file may be."""


def data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


async def test_an_image_and_a_file_reach_the_model_and_are_shown_again(cluster: Cluster) -> None:
    def work() -> None:
        one, other = client(cluster), client(cluster, cluster.replicas[1])
        content: Any = [
            {"type": "input_text", "text": "[[mode=request]]"},
            {"type": "input_image", "image_url": data_url(picture(300), "image/png"), "detail": "auto"},
            {"type": "input_file", "filename": "note.txt", "file_data": data_url(b"remember me", "text/plain")},
        ]
        made = one.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
        assert "image_url" in made.output_text, "the model was sent the image"
        assert "remember me" in made.output_text
        (item,) = other.responses.input_items.list(made.id)
        _, image, note = item.content
        assert (image.type, note.type, note.filename) == ("input_image", "input_file", "note.txt")
        again: Any = [{"role": "user", "content": [{"type": "input_file", "file_id": note.file_id}]}]
        assert other.responses.create(model=MODEL, input=again, previous_response_id=made.id).status == "completed"
        text: Any = {"type": "image_url", "image_url": {"url": content[1]["image_url"]}}
        words: Any = {"type": "text", "text": "[[mode=request]]"}
        told = one.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": [words, text]}])
        assert "image_url" in str(told.choices[0].message.content)

    await in_thread(work)


async def test_p10_the_largest_file_delays_nobody(cluster: Cluster) -> None:
    """No step of any loop is above 50 ms of CPU time meanwhile."""

    def slow_steps() -> float:
        text = httpx.get(f"{cluster.replicas[0].url}/metrics").text
        found = re.search(r"^\w*loop_slow_steps_total (\S+)$", text, re.MULTILINE)
        assert found is not None
        return float(found[1])

    def work() -> None:
        one = client(cluster)
        one.models.list()
        before = slow_steps()
        content: Any = [{"type": "input_file", "file_data": data_url(LARGEST, "text/plain"), "filename": "large.txt"}]
        for _ in range(2):
            made = one.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
            assert made.status == "completed"
        assert slow_steps() == before

    await in_thread(work)


async def test_what_is_wrong_with_a_file_is_said_in_the_clients_terms(cluster: Cluster) -> None:
    def work() -> None:
        one = client(cluster)
        wrong: Any
        for wrong, error in (
            ({"type": "input_image", "image_url": "https://example.com/cat.png"}, openai.BadRequestError),
            ({"type": "input_image", "image_url": "data:image/png;base64,%%%"}, openai.BadRequestError),
            ({"type": "input_file", "file_id": "00000000-0000-0000-0000-000000000000"}, openai.NotFoundError),
            ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, openai.BadRequestError),
            ({"type": "input_image", "image_url": data_url(b"\0" * 40_000, "image/png")}, openai.APIStatusError),
        ):
            with pytest.raises(error) as refused:
                one.responses.create(model=MODEL, input=[{"role": "user", "content": [wrong]}])
            assert refused.value.status_code < 500
            assert len(refused.value.message) > 20

    await in_thread(work)
