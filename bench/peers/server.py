"""A model that asks for CALLS commands and then ends, for every job at once; no latency.

It speaks OpenAI's chat completions, and Anthropic's streamed messages.

`python server.py CALLS COMMAND`: prints its address; ends with its standard input. How far a job is, its messages say.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CALLS, COMMAND = int(sys.argv[1]), sys.argv[2]
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""By which mini-swe-agent knows that the work is done."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each reply waits 40 ms for an acknowledgement

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        streamed = self.path.endswith("/messages")
        data = b"".join(stream(body)) if streamed else json.dumps(completion(body)).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streamed else "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """The next reply in a conversation: one more command, or the end in the way that the asking harness knows."""
    done = sum(message["role"] == "tool" for message in body["messages"])
    tools = {tool["function"]["name"] for tool in body.get("tools", ())}
    if done < CALLS:
        call = ("bash", {"command": COMMAND} if "submit" not in tools else {"cmd": COMMAND})
    elif "submit" in tools:
        call = ("submit", {"answer": "done"})
    else:
        call = ("bash", {"command": SUBMIT})
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"call_{done}", "type": "function", "function": function}],
    }
    return {
        "id": f"c{done}",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020},
    }


def stream(body: dict[str, Any]) -> Iterator[bytes]:
    """The same as the events of a message: https://docs.anthropic.com/en/docs/build-with-claude/streaming."""
    done = sum(block["type"] == "tool_result" for message in body["messages"] for block in message["content"])
    ended = done >= CALLS
    usage = {"input_tokens": 1000, "output_tokens": 1}
    yield event(
        "message_start", message={"id": f"m{done}", "model": body["model"], "role": "assistant", "usage": usage}
    )
    if ended:
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Done."})
    else:
        call = {"type": "tool_use", "id": f"toolu_{done:04}", "name": "Bash", "input": {}}
        yield event("content_block_start", index=0, content_block=call)
        delta = {"type": "input_json_delta", "partial_json": json.dumps({"command": COMMAND})}
        yield event("content_block_delta", index=0, delta=delta)
    yield event("content_block_stop", index=0)
    delta = {"stop_reason": "end_turn" if ended else "tool_use", "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": 20})
    yield event("message_stop")


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
