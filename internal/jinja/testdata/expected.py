#!/usr/bin/env python3
"""Writes the golden files of the package's tests with Python's Jinja2, set up
the way transformers sets it up for chat templates.

usage: expected.py [DIR_OF_TEMPLATES OUTPUT]

Without arguments it rewrites golden_templates.json and golden_snippets.json
beside it; with them, the renderings of other templates. Needs jinja2 3.1.
"""

import datetime
import glob
import json
import os
import sys

import jinja2
import jinja2.nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = datetime.datetime(2024, 7, 26, 9, 5, 3, 42)
NEWLINE = "⏎"  # stands for a newline in snippets.txt


class Generation(Extension):
    """transformers' {% generation %}: a call block around the body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("support")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def support(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = lambda layout: NOW.strftime(layout)


def render(source, variables):
    """The outcome of a rendering: {"out": text} or {"error": kind, ...}."""
    try:
        return {"out": ENV.from_string(source).render(**variables)}
    except jinja2.exceptions.TemplateSyntaxError:
        return {"error": "parse"}
    except jinja2.exceptions.UndefinedError:
        return {"error": "undefined"}
    except jinja2.exceptions.SecurityError:
        return {"error": "security"}
    except jinja2.exceptions.TemplateRuntimeError:
        return {"error": "value"}
    except jinja2.exceptions.TemplateError as e:
        return {"error": "raised", "message": e.message}
    except SyntaxError:  # from Python's compiler: break outside a loop
        return {"error": "parse"}
    except Exception as e:
        return {"error": "value"}


def templates(directory):
    with open(os.path.join(HERE, "conversations.json"), encoding="utf-8") as f:
        conversations = json.load(f)
    golden = {}
    for path in sorted(glob.glob(os.path.join(directory, "*.jinja"))):
        with open(path, encoding="utf-8", newline="") as f:
            source = f.read()
        golden[os.path.basename(path)] = {
            name: render(source, {"bos_token": "<s>", "eos_token": "</s>", **c}) for name, c in conversations.items()
        }
    return golden


def snippets():
    with open(os.path.join(HERE, "variables.json"), encoding="utf-8") as f:
        variables = json.load(f)
    golden = []
    with open(os.path.join(HERE, "snippets.txt"), encoding="utf-8") as f:
        for line in f:
            source = line.rstrip("\n")
            if not source or source.startswith("##"):
                continue
            if not any(tag in source for tag in ("{{", "{%", "{#")):
                source = "{{ " + source + " }}"
            source = source.replace(NEWLINE, "\n")
            golden.append({"template": source, **render(source, variables)})
    return golden


def write(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=1)
        f.write("\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        write(sys.argv[2], templates(sys.argv[1]))
    else:
        write(os.path.join(HERE, "golden_templates.json"), templates(os.path.join(HERE, "templates")))
        write(os.path.join(HERE, "golden_snippets.json"), snippets())
