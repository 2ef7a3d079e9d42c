"""The generator's HTTP/2, against a real gRPC server."""

import asyncio

import grpc
import grpc.aio

from loadtest.h2 import Connection


async def double(request_iterator, context):
    async for request in request_iterator:
        yield request * 2


async def test_messages_of_any_size_go_both_ways_on_many_streams():
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(double, bytes, bytes)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.X", {"S": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = await asyncio.to_thread(Connection, "127.0.0.1", port)
    sent = {connection.open("/x.X/S"): bytes([i]) * size for i, size in enumerate((0, 1, 160, 12000))}
    assert all([connection.send(stream, body) for stream, body in sent.items()])
    for stream in sent:
        connection.end(stream)
    heard = {}
    for _ in range(500):
        connection.flush()
        heard |= dict(connection.receive())
        if connection.ended >= set(sent):
            break
        await asyncio.sleep(0.01)
    await server.stop(None)
    connection.socket.close()
    assert heard == {stream: body * 2 for stream, body in sent.items()} and connection.ended == set(sent)
