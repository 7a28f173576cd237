"""gRPC calls by name, without generated code: the server describes its own types.

Needs the packages grpcio and grpcio-reflection.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2


def reflect(channel, version="v1", **request):
    """One question to reflection; the messages of v1 are those of v1alpha."""
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return next(iter(call(iter([reflection_pb2.ServerReflectionRequest(**request)]))))


def describe(channel, services):
    """Every type that the services need, as the server describes them."""
    pool, known = descriptor_pool.DescriptorPool(), set()

    def add(serialized):
        file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
        if file.name in known:
            return
        known.add(file.name)
        for dependency in file.dependency:
            for other in reflect(channel, file_by_filename=dependency).file_descriptor_response.file_descriptor_proto:
                add(other)
        pool.Add(file)

    for service in sorted(services):
        for file in reflect(channel, file_containing_symbol=service).file_descriptor_response.file_descriptor_proto:
            add(file)
    return pool


def call(channel, pool, service, method, request, token=None):
    """A unary call by names; the answer as a dictionary."""
    described = pool.FindServiceByName(service).methods_by_name[method]
    message = json_format.ParseDict(request, message_factory.GetMessageClass(described.input_type)())
    answer = message_factory.GetMessageClass(described.output_type)
    invoke = channel.unary_unary(f"/{service}/{method}", request_serializer=type(message).SerializeToString, response_deserializer=answer.FromString)
    metadata = [("authorization", f"Bearer {token}")] if token else []
    return json_format.MessageToDict(invoke(message, metadata=metadata, timeout=20), preserving_proto_field_name=True)
