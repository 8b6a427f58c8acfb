"""What h11 reads: a stream of requests as hexadecimal digits on each line in, its reading as JSON on a line out."""

import json
import sys

import h11


def read(octets):
    requests = []
    while True:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
        connection.receive_data(octets)
        try:
            request = connection.next_event()
            if request is h11.NEED_DATA:
                return requests, "more", ""
            end = connection.next_event()
            if not isinstance(end, h11.EndOfMessage):
                return requests, "body", ""
        except h11.RemoteProtocolError as error:
            return requests, "refused", str(error)
        fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers]
        words = [request.method, request.target, request.http_version]
        requests.append([*(word.decode("latin-1") for word in words), fields])
        octets, _ = connection.trailing_data


for line in sys.stdin:
    requests, end, why = read(bytes.fromhex(line))
    print(json.dumps({"requests": requests, "end": end, "why": why}))
