"""Deploys template.yaml, unchanged, with the real bootstraps, to an AWS emulator: ministack, from
PyPI. Then uses it as a client would: a heartbeat is missed, a signal changes, and an HTTP subscriber
of an SNS topic must get both alerts.

    python e2e/aws/deploy.py target/debug/thrum

Needs a Python with ministack, aws-sam-cli and boto3, and bootstraps built by `cargo lambda build`
for x86_64. The functions run with only the permissions of their roles (AUTH). Known gaps of the
emulator, as of 1.5, and what covers them instead:

- It has no composite or anomaly alarms and no CodeDeploy, so this sets `Alarms=basic
  Canary=off`, and neither Application Auto Scaling, Budgets, Cost Explorer and Backup, nor the access log
  of an HTTP API. cfn-lint checks those.
- A filter of `exists: false` never matches if the image itself is missing, so removed leases are
  not delivered: e2e/tests/filters.rs.
- TTL removes items without a stream record: e2e/tests/stream.rs and pipeline.rs, with their own
  pump.
- It ignores partial failures, retry limits and bisecting of stream batches: e2e/tests/stream.rs and
  bootstraps.rs.
- It ignores TimeToLiveSpecification, reserved concurrency, queue policies, and which characters a
  generated secret must exclude.
- The functions can't call their own function URLs: the first deployment is followed by one with a
  SiteUrl that they can call.
- It confirms e-mail subscriptions by itself: e2e/tests/aws_wire.rs.
"""

import http.server
import json
import os
import pathlib
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
STACK = "thrum-test"
SECRET_BODY = "a-body-that-nobody-may-log"
PHONE = "+491701234567"
MAILBOX = "on-call@example.org"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


PORT = free_port()
ENDPOINT = f"http://localhost:{PORT}"
work = tempfile.mkdtemp(prefix="thrum-aws-")
# The functions inherit the emulator's environment, so it contains only what they may see.
env = {
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "HOME": work,
    "TMPDIR": work,
    "GATEWAY_PORT": str(PORT),
    "BIND_HOST": "127.0.0.1",
    "AUTH": "true",
    "AWS_ENDPOINT_URL": ENDPOINT,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
    "SAM_CLI_TELEMETRY": "0",
    "SFTP_ENABLED": "0",
    "IOT_MTLS_ENABLED": "0",
}


def aws(service):
    return boto3.client(service, endpoint_url=ENDPOINT, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")


begun = time.monotonic()


def say(text):
    print(f"{time.monotonic() - begun:6.1f} s  {text}", flush=True)


def until(what, probe, seconds):
    """Polls `probe` until it returns a truthy value, and returns that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.1)
    raise AssertionError(f"timed out after {seconds} s: {what}")


def call(method, url, body=None, headers=None):
    """Status and body of the response, parsed if it is JSON."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else None
    headers = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=40) as reply:
            status, text = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


class Subscriber(http.server.BaseHTTPRequestHandler):
    """Confirms its subscription, and keeps the messages it receives."""

    messages = []

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if message["Type"] == "SubscriptionConfirmation":
            threading.Thread(target=urllib.request.urlopen, args=[message["SubscribeURL"]]).start()
        else:
            self.messages.append((time.time(), message))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def received(kind, text):
    for at, message in Subscriber.messages:
        if message["MessageAttributes"]["type"]["Value"] == kind and text in message["Message"]:
            return at, message
    return None


def deploy(**parameters):
    overrides = [f"{name}={value}" for name, value in parameters.items()]
    command = [BIN / "sam", "deploy", "--template-file", ROOT / "template.yaml", "--stack-name", STACK, "--resolve-s3"]
    command += ["--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar", "--region", "us-east-1"]
    command += ["--parameter-overrides", *overrides]
    done = subprocess.run(command, env=env, cwd=work, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    outputs = aws("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def thrum(*arguments, **variables):
    command = [THRUM, *arguments]
    done = subprocess.run(command, env={**env, **variables}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, f"thrum {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout


def log_lines():
    logs = aws("logs")
    for function in ["ingest", "evaluate", "notify"]:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{STACK}-{function}")
        for page in pages:
            for event in page["events"]:
                yield from ((function, line) for line in event["message"].splitlines())


def emitted():
    """The metrics in the logs: the sum, or for histograms the number of values, by name."""
    figures = {}
    for _, line in log_lines():
        if '"CloudWatchMetrics"' not in line:
            continue
        figure = json.loads(line)
        for metric in figure["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            value = figure[metric["Name"]]
            n = sum(value["Counts"]) if isinstance(value, dict) else value
            figures[metric["Name"]] = figures.get(metric["Name"], 0) + n
    return figures


def alerts_bus():
    """The ARN of an event bus of the user, and the URL of a queue that gets its events that a monitor is down."""
    events, queues = aws("events"), aws("sqs")
    bus = events.create_event_bus(Name="alerts")["EventBusArn"]
    url = queues.create_queue(QueueName="down-events")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = json.dumps({"source": ["thrum"], "detail-type": ["monitor.down"]})
    events.put_rule(Name="down", EventBusName="alerts", EventPattern=pattern)
    events.put_targets(Rule="down", EventBusName="alerts", Targets=[{"Id": "queue", "Arn": arn}])
    return bus, url


def next_event(url):
    found = aws("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", [])
    return json.loads(found[0]["Body"]) if found else None


def main():
    until("the emulator", lambda: call_quietly(f"{ENDPOINT}/_ministack/health"), 30)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Subscriber)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sns = aws("sns")
    topic = sns.create_topic(Name="people")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=f"http://127.0.0.1:{server.server_port}/")

    parameters = {"Architecture": "x86_64", "Alarms": "basic", "Canary": "off"}
    outputs = deploy(**parameters)
    say("deployed")
    plans = json.dumps({"tiny": {"requests_per_day": 2}}, separators=(",", ":"))
    bus, alerts_queue = alerts_bus()
    # What the emulator takes of the other parameters.
    parameters |= {"AlarmEmail": "pages@example.org", "TicketEmail": "tickets@example.org", "WarmWrites": "12000",
                   "MaxWriteRequests": "5000", "Tracing": "all", "LogDays": "7", "LogLevel": "DEBUG", "TimerShards": "16"}
    parameters |= {"Plans": plans.replace('"', '\\"'), "TopicArns": topic, "EventBusArns": bus}
    host = outputs["FunctionUrl"].split("//")[1].split(".")[0]
    url = f"{ENDPOINT}/_aws/lambda-url/{host}"
    outputs = deploy(**parameters, SiteUrl=url)
    assert outputs["Url"] == url
    live = aws("lambda").get_function_configuration(FunctionName=f"{STACK}-evaluate", Qualifier="live")["Environment"]["Variables"]
    assert live["THRUM_PULSE_URLS"].startswith(url), "a change of only a parameter must reach the alias"
    say("deployed again, with a URL that the functions can call")

    simulate_policies(topic, bus)

    # The admin key from the stack's secret creates a project.
    assert call("GET", f"{url}/health") == (200, "OK")
    admin = aws("secretsmanager").get_secret_value(SecretId=f"{STACK}/admin")["SecretString"]
    status, project = call("POST", f"{url}/v1/projects", {"name": "ops", "plan": "enterprise"}, {"x-admin-key": admin})
    assert status == 201, project
    assert call("POST", f"{url}/v1/projects", {}, {"x-admin-key": "x" * 40})[0] == 401
    key = {"x-api-key": project["api_key"]}
    api = lambda method, path, body=None: call(method, url + path, body, key)

    def create(path, body):
        status, reply = api("POST", path, body)
        assert status in (200, 201, 202), (path, status, reply)
        return reply

    create("/v1/channels", {"kind": "sns", "name": "people", "topic_arn": topic})
    status, reply = api("POST", "/v1/channels", {"kind": "sns", "topic_arn": topic.replace("people", "others")})
    assert status == 400 and "TopicArns" in reply["detail"], reply
    create("/v1/channels", {"kind": "eventbridge", "name": "bus", "settings": {"bus": bus}})
    assert api("POST", "/v1/channels", {"kind": "eventbridge", "settings": {"bus": "others"}})[0] == 400
    # For the metrics of failures: one host does not resolve, and one limit is reached at once.
    create("/v1/channels", {"kind": "webhook", "name": "nowhere", "url": "https://nowhere.invalid/"})
    sms = create("/v1/channels", {"kind": "sms", "name": "phone", "to": PHONE, "daily_limit": 1})
    mail = create("/v1/channels", {"kind": "email", "name": "mail", "to": MAILBOX})
    say("channels are created")

    # A missed heartbeat, long before the next sweep.
    monitor = create("/v1/monitors", {"name": "backup", "slug": "backup", "period_s": 12, "grace_s": 2})
    uuid = monitor["uuid"]
    assert call("POST", f"{url}/ping/{uuid}", SECRET_BODY)[0] == 200
    deadline = time.time() + 14
    at, message = until("the alert of a missed heartbeat", lambda: received("monitor.down", "backup"), 40)
    late = at - deadline
    event = until("its event on the user's bus", lambda: next_event(alerts_queue), 20)
    assert event["source"] == "thrum" and event["detail"]["monitor"]["name"] == "backup", event
    say(f"alert of a missed heartbeat {late:.1f} s after its deadline: {message['Subject']}")
    assert -0.5 < late < 5, late
    assert call("GET", f"{url}/ping/{project['ping_key']}/backup")[0] == 200
    until("the alert of its recovery", lambda: received("monitor.up", "backup"), 20)
    say("alert of its recovery")
    texts = call("GET", f"{ENDPOINT}/_ministack/sns/sms-messages")[1]
    assert PHONE in json.dumps(texts), texts

    # A signal that changes.
    status, reply = api("PUT", "/v1/strategies/simple", {
        "buy": {"left": "close", "op": ">", "right": 100}, "sell": {"left": "close", "op": "<", "right": 100}})
    assert status in (200, 201), reply
    hour = int(time.time()) // 3600 * 3600

    def bars(*closes):
        series = [{"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(hour - 3600 * (9 - i))),
                   "open": close, "high": close, "low": close, "close": close, "volume": 1} for i, close in closes]
        assert create("/v1/series/x/bars", {"timeframe": "1h", "bars": series})["rejected"] == []

    bars(*((i, 90) for i in range(6)))
    create("/v1/watches", {"series": "x", "timeframe": "1h", "strategy": "simple"})
    asked = create("/v1/signals", {"series": "x", "timeframe": "1h", "strategy": "simple"})
    found = until("the answer to a request", lambda: (lambda r: r if r["status"] == "done" else None)(api("GET", asked["href"])[1]), 20)
    assert found["last_known"] == "SELL", found
    bars((6, 90), (7, 120))
    at, message = until("the alert of a changed signal", lambda: received("signal.changed", "x"), 30)
    say(f"alert of a changed signal: {message['Subject']}")
    backtest = create("/v1/backtests", {"series": "x", "timeframe": "1h", "strategy": "simple"})
    until("a backtest through the work queue", lambda: api("GET", backtest["href"])[1].get("status") == "done", 30)
    say("a backtest came through the work queue")

    # The schedule: the pulse, the sweep, and what only a sweep does.
    until("a scheduled sweep", lambda: emitted().get("SweepLag"), 150)
    say("the schedule sweeps")
    status, deep = call("GET", f"{url}/v1/status")
    assert status == 200, deep
    subscribed = lambda: api("GET", f"/v1/channels/{mail['id']}")[1]["subscription"]["state"]
    until("an e-mail subscription", lambda: subscribed() in ("pending", "confirmed"), 150)
    topics = [found["TopicArn"] for found in sns.list_topics()["Topics"]]
    assert any(f"{STACK}-mail-{mail['id']}" in arn for arn in topics), topics
    say("the deep health check passes, and the mail channel has its topic")

    # A container serves the same table, with the functions behind it.
    container = subprocess.Popen(
        [THRUM, "serve", "--listen", "127.0.0.1:0", "--table", outputs["Table"], "--log-format", "json"],
        env={**env, "THRUM_ADMIN_KEY": admin, "THRUM_TOPICS": topic}, stdout=subprocess.PIPE, text=True)
    try:
        base = container.stdout.readline().split()[-1]
        threading.Thread(target=container.stdout.read, daemon=True).start()
        assert call("GET", f"{base}/v1/status")[0] == 200
        status, reply = call("POST", f"{base}/v1/heartbeats", {"monitor": "through-a-container", "period_s": 5, "grace_s": 1}, key)
        assert status == 200, reply
        assert call("GET", f"{base}/v1/projects", headers={"x-admin-key": admin})[0] == 200
        until("the alert of a heartbeat through a container", lambda: received("monitor.down", "through-a-container"), 40)
    finally:
        container.terminate()
        assert container.wait(20) == 0
    say("a container serves the table, and the functions alert")

    # The operator's commands.
    table = outputs["Table"]
    assert "backup" in thrum("monitors", "--table", table)
    created = thrum("projects", "create", "tiny", "--plan", "tiny", "--json", "--table", table, THRUM_PLANS=plans)
    tiny = {"x-api-key": json.loads(created)["api_key"]}
    statuses = [call("GET", f"{url}/v1/channels", headers=tiny)[0] for _ in range(3)]
    assert statuses == [200, 200, 429], statuses
    say("the commands work on the table")
    print(thrum("smoke", url, THRUM_API_KEY=project["api_key"]))
    say("the smoke test passes")

    # This run must write every metric that the dashboard and alarms use, which includes a failure
    # for an invalid message.
    queues = aws("sqs")
    queue = next(url for url in queues.list_queues()["QueueUrls"] if "NotifyQueue" in url)
    queues.send_message(QueueUrl=queue, MessageBody="not a Thrum message")
    channels = api("GET", "/v1/channels")[1]["channels"]
    nowhere = next(channel for channel in channels if channel["name"] == "nowhere")
    assert api("DELETE", f"/v1/channels/{nowhere['id']}")[0] == 204
    body = aws("cloudwatch").get_dashboard(DashboardName=STACK)["DashboardBody"]
    shown, last = set(), [None, None]
    for widget in json.loads(body)["widgets"]:
        for metric in widget["properties"]["metrics"]:
            names = metric[:2]
            if names[0] != "...":
                last = [old if new == "." else new for old, new in zip(last, names)]
            if last[0] == "Thrum":
                shown.add(last[1])
    alarms = aws("cloudwatch").describe_alarms()["MetricAlarms"]
    shown |= {alarm["MetricName"] for alarm in alarms if alarm.get("Namespace") == "Thrum"}
    assert len(shown) >= 11, shown
    missing = until("every metric", lambda: not shown - set(emitted()) or None, 200)
    say(f"every metric was written: {emitted()}")

    # The logs must hold no secrets.
    secrets = {"the admin key": admin, "an API key": project["api_key"], "a ping key": project["ping_key"], "a body": SECRET_BODY,
               "a ping URL": uuid, "a number": PHONE, "a mailbox": MAILBOX, "another key": tiny["x-api-key"]}
    lines = list(log_lines())
    for function, line in lines:
        for what, secret in secrets.items():
            assert secret not in line, f"{function} logs {what}: {line}"
    say(f"{len(lines)} log lines hold no key, body or address")
    for function, line in lines:
        assert "AccessDenied" not in line and "not authorized" not in line, line
    say("done")


def simulate_policies(topic, bus):
    """Checks the policies of the functions' roles, as deployed, with a model of IAM that is not the emulator's."""
    iam, queues, cloudformation = aws("iam"), aws("sqs"), aws("cloudformation")
    resources = cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
    physical = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in resources}
    policies = {}
    for role in ["IngestRole", "EvaluateRole", "NotifyRole"]:
        name = physical[role].split("/")[-1]
        names = iam.list_role_policies(RoleName=name)["PolicyNames"]
        assert names and not iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        policies[role] = [
            {"name": one, "policy": iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"]} for one in names]
    table = aws("dynamodb").describe_table(TableName=physical["Table"])["Table"]
    queue = lambda name: queues.get_queue_attributes(QueueUrl=physical[name], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    arns = {
        "stack": STACK, "table": table["TableArn"], "stream": table["LatestStreamArn"], "topic": topic, "userBus": bus,
        "bus": aws("events").describe_event_bus(Name=physical["Bus"].split("/")[-1])["Arn"],
        "secret": aws("secretsmanager").describe_secret(SecretId=f"{STACK}/admin")["ARN"],
        "timerQueue": queue("TimerQueue"), "workQueue": queue("WorkQueue"), "notifyQueue": queue("NotifyQueue"),
        "streamFailures": queue("StreamFailures"),
    }
    account = table["TableArn"].split(":")[4]
    deployment = json.dumps({"account": account, "region": "us-east-1", "policies": policies, "arns": arns})
    done = subprocess.run(["node", ROOT / "e2e/aws/policies.mjs"], input=deployment, text=True, capture_output=True)
    assert done.returncode == 0, f"{done.stderr}\n{deployment}"
    say(done.stdout.strip())


def call_quietly(url):
    try:
        return call("GET", url)[0] == 200
    except OSError:
        return False


log = open(f"{work}/emulator.log", "w")
emulator = subprocess.Popen([BIN / "ministack"], env=env, cwd=work, stdout=log, stderr=log, start_new_session=True)
try:
    main()
except BaseException:
    subprocess.run(["tail", "-c", "6000", f"{work}/emulator.log"], stdout=sys.stderr)
    raise
finally:
    os.killpg(emulator.pid, signal.SIGTERM)
    emulator.wait(20)
