"""A web server, a scheduler and a consumer in one process, each in an interpreter of its own with its own core.

    python examples/service.py                 until Ctrl-C; prints where the server is
    python examples/service.py --results 5     until it has served so many results

The scheduler puts a job into a queue now and then. The consumer takes jobs and computes; every seventh job kills it,
and the supervisor starts it again. Results are in a SharedDict, from which the server serves them as JSON, however
busy the consumer is.
"""

import argparse
import json
import logging
import time
import urllib.request

import atoll

EVIL = 7


def schedule(jobs, seconds):
    """Put a job into the queue every so many seconds."""
    number = 0
    while True:
        atoll.heartbeat()
        number += 1
        jobs.put(number)
        time.sleep(seconds)


def consume(jobs, results):
    """Do jobs, one after the other."""
    for number in jobs:
        if number % EVIL == 0:
            raise ValueError(f"job {number} is a bad one")
        results[number] = count_primes(number * 1000)


def count_primes(limit):
    """Count the primes below a limit, as slowly as can be."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


def serve(results, started, port):
    """Serve the results as JSON."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(results.copy()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        started.put(server.server_port)
        server.serve_forever(poll_interval=0.1)


def watch(port, wanted):
    """Ask the server until it has so many results; return them."""
    results = {}
    while len(results) < wanted:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            results = json.load(answer)
        time.sleep(0.05)
    return results


def main():
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="the server's port (default: any that is free)")
    parser.add_argument("--seconds", type=float, default=1.0, help="between two jobs (default 1)")
    parser.add_argument("--results", type=int, default=0, help="stop when so many are served")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    jobs, started, results = atoll.create_queue(), atoll.create_queue(), atoll.SharedDict()
    supervisor = atoll.Supervisor(max_restarts=100)
    supervisor.add("web", serve, (results, started, arguments.port))
    supervisor.add("consumer", consume, (jobs, results))
    supervisor.add("scheduler", schedule, (jobs, arguments.seconds), heartbeat=arguments.seconds + 60)
    try:
        with supervisor:
            port = started.get()
            print(f"http://127.0.0.1:{port}/", flush=True)
            if arguments.results:
                found = watch(port, arguments.results)
                print(f"{len(found)} results, as {{'3': {found.get('3')}}}")
            else:
                supervisor.wait()
    except KeyboardInterrupt:
        pass
    restarts = supervisor.children()["consumer"].restarts
    print(f"the consumer was started again {restarts} times")


if __name__ == "__main__":
    main()
