"""A protoc plugin that hands its request to grpc_tools, whose own gRPC generator buf can't call."""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Returns the gRPC modules of the files asked for."""
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with_services = [f.name for f in request.proto_file if f.service]
    wanted = sorted(set(request.file_to_generate) & set(with_services))
    if not wanted:
        return response
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        descriptors = out / "descriptors.binpb"
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        protoc = [sys.executable, "-m", "grpc_tools.protoc"]
        options = [f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}"]
        subprocess.run([*protoc, *options, *wanted], check=True)
        for module in sorted(out.rglob("*_pb2_grpc.py")):
            name = module.relative_to(out).as_posix()
            response.file.add(name=name, content=module.read_text())
    return response


if __name__ == "__main__":
    asked = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(asked).SerializeToString())
