"""A model behind JSON over HTTP, with what Python has for it: no line of the bridge runs here.

http_server.py MODEL THREADS writes its port, and ends when its stdin does. POST {"ids": [...],
"last": false} gives {"logits": [[...], ...]}, of all positions or of the last.
"""

import http.server
import json
import os
import sys
import threading

os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")

import torch
import transformers

path, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
transformers.logging.set_verbosity_error()
model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with torch.inference_mode():
            out = model(input_ids=torch.tensor([request["ids"]]), use_cache=False, logits_to_keep=int(request["last"]))
        body = json.dumps({"logits": out.logits[0].tolist()}, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
print(server.server_port, flush=True)
server.serve_forever()
