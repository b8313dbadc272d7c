"""The notify endpoint of the Apprise API, on the apprise library.

Prints its port. Notifies the URL in the first argument, which has the tag `ops`.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import apprise

apobj = apprise.Apprise()
assert apobj.add(sys.argv[1], tag="ops")


class Api(BaseHTTPRequestHandler):
    def do_POST(self):
        if self.path != "/notify/key":
            return self.answer(404, "no such key")
        try:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body, kind, form = asked["body"], asked["type"], asked["format"]
        except (KeyError, ValueError) as error:
            return self.answer(400, str(error))
        if kind not in [str(getattr(k, "value", k)) for k in apprise.NOTIFY_TYPES]:
            return self.answer(400, "type")
        if form not in [str(getattr(f, "value", f)) for f in apprise.NOTIFY_FORMATS]:
            return self.answer(400, "format")
        sent = apobj.notify(
            body=body,
            title=asked.get("title", ""),
            notify_type=kind,
            body_format=form,
            tag=asked.get("tag", apprise.common.MATCH_ALL_TAG),
        )
        # None: no URL has the tag.
        return self.answer(200 if sent else 424, "done" if sent else "failed dependency")

    def answer(self, status, text):
        body = json.dumps({"error": None if status == 200 else text}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Api)
print(server.server_port, flush=True)
server.serve_forever()
