"""Two regions: deploys template.yaml twice, to two emulators (ministack) that stand in for two regions, with a fence
that both reach and a replicator between their tables. Then kills the emulator of the active region in mid-flight. The
other region must take over, alert of what fell silent and of nothing else, and pass the same checks as a deployment in
one region. Finally, sets up the lost region again and switches back to it.

    python e2e/aws/regions.py target/debug/thrum

A function reaches AWS through a proxy of its region, because no emulator has DynamoDB in another region: the proxy sends
each call of a table to the emulator of the region that signed it, and calls of the fence to an emulator of its own.
What the emulators lack is in deploy.py.
"""

import collections
import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import boto3

ROOT = pathlib.Path(__file__).resolve().parents[2]
THRUM = pathlib.Path(sys.argv[1]).resolve()
BIN = pathlib.Path(sys.executable).parent
REGIONS = ["us-east-1", "us-west-2"]
FENCE = "thrum-fence"
PHONE = "+491701234567"
ADMIN = "an-admin-key-that-is-replicated-to-both-regions"
# A lease, the flight time, polling, and the repair; and as long again, because the emulators are slow.
TAKEOVER_S = 150
# How long an outage of Thrum lasts after a takeover, until clients have found the other region.
REROUTED_S = 90

work = tempfile.mkdtemp(prefix="thrum-regions-")
begun = time.monotonic()


def say(text):
    print(f"{time.monotonic() - begun:6.1f} s  {text}", flush=True)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def until(what, probe, seconds):
    """Polls `probe` until it returns a truthy value, and returns that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.2)
    raise AssertionError(f"timed out after {seconds} s: {what}")


def call(method, url, body=None, headers=None):
    """Status and body of the response, parsed if it is JSON; status 0 if there is none."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=40) as reply:
            status, text = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    except OSError as error:
        return 0, str(error)
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


class Emulator:
    """An emulator of AWS in a process of its own, which can be killed."""

    def __init__(self, name, region):
        self.name, self.region, self.port = name, region, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = pathlib.Path(work) / name
        self.home.mkdir()
        self.process = None

    def start(self):
        endpoint = self.url if self is fence else proxy_of(self)
        self.env = {
            "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(self.home), "TMPDIR": str(self.home),
            "GATEWAY_PORT": str(self.port), "BIND_HOST": "127.0.0.1", "AUTH": "true",
            "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": self.region, "AWS_REGION": self.region, "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", "SAM_CLI_TELEMETRY": "0",
            "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0",
        }
        self.log = open(self.home / "log", "w")
        self.process = subprocess.Popen([BIN / "ministack"], env=self.env, cwd=self.home, stdout=self.log, stderr=self.log, start_new_session=True)
        until(f"the emulator {self.name}", lambda: call("GET", f"{self.url}/_ministack/health")[0] == 200, 30)

    def aws(self, service):
        return boto3.client(service, endpoint_url=self.url, region_name=self.region, aws_access_key_id="test", aws_secret_access_key="test")

    def function_logs(self):
        logs = self.aws("logs")
        for group in logs.describe_log_groups()["logGroups"]:
            for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"][-200:]:
                yield f"{group['logGroupName']}: {event['message'].strip()[:500]}"

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.is_running():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)


fence = Emulator("fence", REGIONS[0])
regions = [Emulator(region, region) for region in REGIONS]


class Proxy(http.server.BaseHTTPRequestHandler):
    """AWS as the functions of a region see it."""

    protocol_version = "HTTP/1.1"
    # Head and body of a reply in one piece.
    wbufsize = 65536
    home = None

    def forward(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        signed = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", self.headers.get("authorization", ""))
        target = self.home
        if signed and signed[2] == "dynamodb":
            target = next(one for one in regions if one.region == signed[1])
            if f'"TableName":"{FENCE}"'.encode() in body:
                target = fence
        headers = dict(self.headers)
        if target is not self.home:
            # An emulator knows only the roles and the tables of its own region.
            headers = {name: value for name, value in headers.items() if name.lower() != "x-amz-security-token"}
            as_own = rf"Credential=test/\1/{target.region}/"
            headers = {name: re.sub(r"Credential=[^/]+/(\d+)/[^/]+/", as_own, value) for name, value in headers.items()}
        upstream = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
        try:
            upstream.request(self.command, self.path, body, headers)
            reply = upstream.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            upstream.close()
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = forward

    def log_message(self, *_):
        pass


def proxy_of(home):
    handler = type("Proxy", (Proxy,), {"home": home})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


class Replicator:
    """Copies what changes in one table to the other. The last writer wins; what it wrote itself it does not copy back."""

    def __init__(self, table, pair):
        self.table, self.lock = table, threading.Lock()
        self.own = {one.name: collections.defaultdict(list) for one in pair}
        self.written = {one.name: {} for one in pair}
        self.copied = 0
        for source, target in [pair, pair[::-1]]:
            threading.Thread(target=self.run, args=[source, target], daemon=True).start()

    def run(self, source, target):
        streams, tables = source.aws("dynamodbstreams"), target.aws("dynamodb")
        arn = source.aws("dynamodb").describe_table(TableName=self.table)["Table"]["LatestStreamArn"]
        shards = {}
        while source.is_running() and target.is_running():
            try:
                for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
                    name = shard["ShardId"]
                    if name not in shards:
                        shards[name] = streams.get_shard_iterator(StreamArn=arn, ShardId=name, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
                for name in [name for name, place in shards.items() if place]:
                    found = streams.get_records(ShardIterator=shards[name])
                    shards[name] = found.get("NextShardIterator")
                    for record in found["Records"]:
                        self.copy(source, target, tables, record["dynamodb"])
            except Exception as error:
                if source.is_running() and target.is_running():
                    say(f"replication from {source.name}: {error}")
            time.sleep(0.3)

    def copy(self, source, target, tables, change):
        key = json.dumps(change["Keys"], sort_keys=True, default=str)
        image = change.get("NewImage")
        text = json.dumps(image, sort_keys=True, default=str)
        at = change["ApproximateCreationDateTime"].timestamp()
        with self.lock:
            mine = self.own[source.name][key]
            if text in mine:
                mine.remove(text)
                return
            self.written[source.name][key] = at
            # Only the active region's table is written, so an older write is one from before a takeover.
            if at < self.written[target.name].get(key, 0):
                return
            self.own[target.name][key].append(text)
        if image is None:
            tables.delete_item(TableName=self.table, Key=change["Keys"])
        else:
            tables.put_item(TableName=self.table, Item=image)
        self.copied += 1


def create_table(emulator, name):
    stream = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}
    emulator.aws("dynamodb").create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": one, "AttributeType": "S"} for one in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        **({} if emulator is fence else stream))
    return emulator.aws("dynamodb").describe_table(TableName=name)["Table"]


def deploy(emulator, **parameters):
    overrides = [f"{name}={value}" for name, value in parameters.items()]
    command = [BIN / "sam", "deploy", "--template-file", ROOT / "template.yaml", "--stack-name", "thrum-test", "--resolve-s3"]
    command += ["--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar", "--region", emulator.region]
    command += ["--parameter-overrides", *overrides]
    env = {**emulator.env, "AWS_ENDPOINT_URL": emulator.url}
    done = subprocess.run(command, env=env, cwd=emulator.home, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    outputs = emulator.aws("cloudformation").describe_stacks(StackName="thrum-test")["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def deploy_replica(emulator, table, stream, shared):
    """Deploys the stack of a region whose table is a replica."""
    secret = emulator.aws("secretsmanager").create_secret(Name="thrum-test/admin", SecretString=ADMIN)["ARN"]
    replica = {**shared, "ReplicaTable": table, "ReplicaStream": stream, "AdminSecretArn": secret}
    outputs = deploy(emulator, **replica)
    return deploy(emulator, **replica, SiteUrl=function_url(emulator, outputs))


def thrum(*arguments, **variables):
    env = {"PATH": os.environ["PATH"], "HOME": work, **variables}
    done = subprocess.run([THRUM, *arguments], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, f"thrum {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout


def texts(emulator):
    status, found = call("GET", f"{emulator.url}/_ministack/sns/sms-messages")
    return json.dumps(found) if status == 200 else ""


def function_url(emulator, outputs):
    host = outputs["FunctionUrl"].split("//")[1].split(".")[0]
    return f"{emulator.url}/_aws/lambda-url/{host}"


def is_well(url):
    shown = call("GET", f"{url}/v1/status")[1]
    return isinstance(shown, dict) and shown.get("status") == "ok"


def main():
    first, second = regions
    fence.start()
    for emulator in regions:
        emulator.start()
    create_table(fence, FENCE)
    shared = {"Architecture": "x86_64", "Alarms": "basic", "Canary": "off", "Regions": ",".join(REGIONS), "FenceTable": FENCE}
    outputs = deploy(first, **shared)
    table = outputs["Table"]
    first.aws("secretsmanager").put_secret_value(SecretId="thrum-test/admin", SecretString=ADMIN)
    outputs = deploy(first, **shared, SiteUrl=function_url(first, outputs))
    say("the first region is deployed")

    stream = create_table(second, table)["LatestStreamArn"]
    replicator = Replicator(table, regions)
    there = deploy_replica(second, table, stream, shared)
    urls = [outputs["Url"], there["Url"]]
    admin = {"x-admin-key": ADMIN}
    say("the second region is deployed")

    status = lambda i: call("GET", f"{urls[i]}/v1/regions", headers=admin)[1]
    until("the first region to be active", lambda: isinstance(shown := status(1), dict) and shown.get("active") == REGIONS[0], 150)
    until("the second region to report", lambda: status(1).get("passive"), 150)
    until("the health of both regions", lambda: all(call("GET", f"{url}/health") == (200, "OK") for url in urls), 30)
    until("the first pulse", lambda: is_well(urls[1]), 150)
    print(thrum("region", "status", "--url", urls[1], THRUM_ADMIN_KEY=ADMIN))
    say("the first region is active, and the second one has caught up")

    # A client of the second region writes to the first one's table.
    code, project = call("POST", f"{urls[1]}/v1/projects", {"name": "ops", "plan": "enterprise"}, admin)
    assert code == 201, project
    key = {"x-api-key": project["api_key"]}
    code, reply = call("POST", f"{urls[1]}/v1/channels", {"kind": "sms", "name": "phone", "to": PHONE}, key)
    assert code == 201, reply
    ids = {}
    for name, period_s in [("steady", 20), ("silent", 20), ("lost", 3600)]:
        monitor = {"name": name, "slug": name, "period_s": period_s, "grace_s": 10}
        code, reply = call("POST", f"{urls[1]}/v1/monitors", monitor, key)
        assert code in (200, 201), reply
        ids[name] = reply["uuid"]
    stop = threading.Event()
    refused = collections.Counter()

    def beat(names):
        """Sends heartbeats through whichever region answers, as DNS would."""
        while not stop.wait(4):
            for name in names:
                codes = [call("GET", f"{url}/ping/{ids[name]}")[0] for url in urls]
                refused[name] += 200 not in codes

    for name in ids:
        assert call("GET", f"{urls[0]}/ping/{ids[name]}")[0] == 200
    threading.Thread(target=beat, args=[["steady"]], daemon=True).start()
    assert call("GET", f"{urls[0]}/ping/{ids['lost']}/fail")[0] == 200
    until("an alert of the first region", lambda: "lost" in texts(first), 90)
    assert "lost" not in texts(second), "the passive region must send nothing"
    say("the first region alerts, and the second one is silent")

    # In mid-flight: heartbeats come in, and the monitor `silent` is due in a few seconds.
    until("replication of all of that", lambda: replicator.copied > 10, 60)
    time.sleep(3)
    first.kill()
    killed = time.monotonic()
    say("the first region is killed")

    def ready():
        shown = status(1)
        return isinstance(shown, dict) and shown.get("active") == REGIONS[1] and shown.get("ready")

    until("the second region to take over", ready, TAKEOVER_S)
    say(f"the second region has taken over, {time.monotonic() - killed:.0f} s after the loss")
    print(thrum("region", "status", "--url", urls[1], THRUM_ADMIN_KEY=ADMIN))
    assert call("GET", f"{urls[1]}/health") == (200, "OK")
    until("the alert of a monitor that fell silent", lambda: "silent" in texts(second), REROUTED_S + 120)
    assert "Thrum moved to another region" in texts(second), texts(second)
    assert "steady" not in texts(second), "a monitor that is pinged must not go down"
    say("the second region alerts of what fell silent, and of nothing else")
    assert call("GET", f"{urls[1]}/ping/{ids['lost']}")[0] == 200
    until("the recovery of what the first region had reported down", lambda: texts(second).count("lost") > 0, 90)
    say("and of the recovery of what the first region had reported down")

    # What a deployment in one region does, the second region does now.
    api = lambda method, path, body=None: call(method, urls[1] + path, body, key)
    code, reply = api("PUT", "/v1/strategies/simple", {
        "buy": {"left": "close", "op": ">", "right": 100}, "sell": {"left": "close", "op": "<", "right": 100}})
    assert code in (200, 201), reply
    hour = int(time.time()) // 3600 * 3600
    bars = [{"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(hour - 3600 * (9 - i))),
             "open": close, "high": close, "low": close, "close": close, "volume": 1} for i, close in enumerate([90] * 6)]
    code, reply = api("POST", "/v1/series/x/bars", {"timeframe": "1h", "bars": bars})
    assert code in (200, 201, 202), reply
    code, asked = api("POST", "/v1/signals", {"series": "x", "timeframe": "1h", "strategy": "simple"})
    assert code in (200, 201, 202), asked
    until("the answer to a request for a signal", lambda: api("GET", asked["href"])[1].get("last_known") == "SELL", 90)
    backtest = api("POST", "/v1/backtests", {"series": "x", "timeframe": "1h", "strategy": "simple"})[1]
    until("a backtest through the work queue", lambda: api("GET", backtest["href"])[1].get("status") == "done", 90)
    assert "lost" in thrum("monitors", "--url", urls[1], THRUM_API_KEY=project["api_key"])
    say(f"the second region passes the checks; {refused['steady']} heartbeats were refused during the takeover")

    # The lost region is set up again. The other one's stream still has all that was written to it.
    regions[0] = first = Emulator(f"{REGIONS[0]}-again", REGIONS[0])
    first.start()
    stream = create_table(first, table)["LatestStreamArn"]
    replicator = Replicator(table, regions)
    urls[0] = deploy_replica(first, table, stream, shared)["Url"]
    say("the lost region is deployed again")
    until("the new region to catch up", lambda: is_well(urls[1]), 180)
    print(thrum("smoke", urls[1], THRUM_API_KEY=project["api_key"]))
    say("the smoke test passes in the second region")
    print(thrum("region", "switch", REGIONS[0], "--url", urls[1], THRUM_ADMIN_KEY=ADMIN))

    def is_back():
        shown = status(0)
        return isinstance(shown, dict) and shown.get("active") == REGIONS[0] and shown.get("ready")

    until("the switch", is_back, TAKEOVER_S)
    before = texts(second)
    assert call("GET", f"{urls[1]}/ping/{ids['lost']}/fail")[0] == 200
    until("an alert of the region that is back", lambda: "lost" in texts(first), 120)
    assert texts(second) == before, "the passive region must send nothing"
    assert "steady" not in texts(first) + texts(second), "a monitor that is pinged must not go down"
    stop.set()
    print(thrum("region", "status", "--url", urls[0], THRUM_ADMIN_KEY=ADMIN))
    say("the first region is active again")


try:
    main()
except BaseException:
    for emulator in regions:
        print(f"--- {emulator.name}", file=sys.stderr)
        subprocess.run(["tail", "-c", "5000", emulator.home / "log"], stdout=sys.stderr)
        if emulator.is_running():
            try:
                print(*emulator.function_logs(), sep="\n", file=sys.stderr)
            except Exception as error:
                print(f"no logs of the functions: {error}", file=sys.stderr)
    raise
finally:
    for emulator in [*regions, fence]:
        emulator.kill()
