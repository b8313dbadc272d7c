//! template.yaml against the code: each function's permissions match the calls in its bootstrap,
//! every alarm has a runbook, and the dashboard shows every metric.

use e2e::lambda::bootstrap;
use serde_yaml_ng::Value;
use std::collections::BTreeSet;
use std::process::Command;
use thrum_schema::UnixMs;
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::metrics::{Count, NAMESPACE, Sample};
use thrum_schema::work::NotifyWork;
use uuid::Uuid;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn template() -> Value {
    read("template.yaml")
}

fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
    let mut template: Value = serde_yaml_ng::from_str(&text).unwrap();
    template.apply_merge().unwrap();
    template
}

/// A value without its CloudFormation tag, such as `!Sub`.
fn plain(value: &Value) -> &Value {
    match value {
        Value::Tagged(tagged) => plain(&tagged.value),
        value => value,
    }
}

/// Appends every map in `value` to `found`, including those under CloudFormation tags.
fn maps<'a>(value: &'a Value, found: &mut Vec<&'a serde_yaml_ng::Mapping>) {
    match plain(value) {
        Value::Mapping(map) => {
            found.push(map);
            map.values().for_each(|value| maps(value, found));
        }
        Value::Sequence(values) => values.iter().for_each(|value| maps(value, found)),
        _ => {}
    }
}

fn strings(value: &Value) -> Vec<String> {
    match plain(value) {
        Value::String(text) => vec![text.clone()],
        Value::Sequence(values) => values.iter().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// The actions that the template allows a role.
fn allowed(template: &Value, role: &str) -> BTreeSet<String> {
    let mut found = Vec::new();
    maps(
        &template["Resources"][role]["Properties"]["Policies"],
        &mut found,
    );
    let statements = found.iter().filter(|map| map.contains_key("Effect"));
    let actions: BTreeSet<String> = statements.flat_map(|map| strings(&map["Action"])).collect();
    assert!(
        actions.iter().all(|action| !action.contains('*')),
        "{actions:?}"
    );
    actions
}

/// The actions that a bootstrap can call: the SDK operations linked into it.
fn linked(function: &str) -> BTreeSet<String> {
    let output = Command::new("nm")
        .args(["-C", "--defined-only"])
        .arg(bootstrap(function))
        .output()
        .expect("nm from binutils");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut actions = BTreeSet::new();
    let pascal = |snake: &str| -> String {
        let words = snake.split('_');
        words
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect()
    };
    let word = |rest: &str| -> String {
        let letters = rest.chars();
        letters
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect()
    };
    for line in text.lines() {
        let Some((_, after)) = line.split_once("aws_sdk_") else {
            continue;
        };
        let service = word(after);
        let rest = &after[service.len()..];
        if let Some(operation) = rest.strip_prefix("::operation::") {
            let prefix = match &*service {
                "eventbridge" => "events",
                service => service,
            };
            actions.insert(format!("{prefix}:{}", pascal(&word(operation))));
        }
        // A transaction needs the permissions of its writes.
        for (kind, action) in [
            ("_put::Put", "PutItem"),
            ("_update::Update", "UpdateItem"),
            ("_delete::Delete", "DeleteItem"),
            ("_condition_check::ConditionCheck", "ConditionCheckItem"),
        ] {
            if service == "dynamodb" && rest.starts_with(&format!("::types::{kind}Builder::build"))
            {
                actions.insert(format!("dynamodb:{action}"));
            }
        }
    }
    // The table adapter links every operation of its port. Which ones a function uses shows in the
    // store operations linked: these write batches, or check an item without writing it.
    let checking = [
        "commit",
        "create_monitor",
        "delete_api_key",
        "advance_track",
    ];
    for (action, operations) in [
        ("dynamodb:BatchWriteItem", &["write_many"][..]),
        ("dynamodb:ConditionCheckItem", &checking[..]),
    ] {
        let is_linked =
            |operation: &&str| text.contains(&format!("thrum_store::Store>::{operation}"));
        if !operations.iter().any(is_linked) {
            actions.remove(action);
        }
    }
    assert!(
        actions.remove("dynamodb:TransactWriteItems"),
        "transactions have no permission of their own"
    );
    actions
}

#[test]
fn each_function_has_exactly_the_permissions_it_uses() {
    let template = template();
    let platform = [
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    ];
    let queue = [
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
    ];
    let stream = [
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
    ];
    for (function, role, sources) in [
        ("ingest", "IngestRole", vec![]),
        (
            "evaluate",
            "EvaluateRole",
            [&queue[..], &stream[..]].concat(),
        ),
        ("notify", "NotifyRole", queue.to_vec()),
    ] {
        let mut needed = linked(function);
        needed.extend(
            platform
                .iter()
                .chain(&sources)
                .map(|action| (*action).to_owned()),
        );
        assert_eq!(allowed(&template, role), needed, "{function}");
    }
}

/// Ingest has the same settings and permissions as a function, on managed instances and in containers.
#[test]
fn ingest_has_the_same_settings_and_permissions_everywhere() {
    let names = |value: &Value| -> BTreeSet<String> {
        let variables = value.as_mapping().unwrap().keys();
        variables.flat_map(strings).collect()
    };
    let function = template();
    let of_ingest = &function["Resources"]["Ingest"]["Properties"]["Environment"]["Variables"];
    let of_all = &function["Globals"]["Function"]["Environment"]["Variables"];
    let mut settings = &names(of_ingest) | &names(of_all);
    for only_there in ["THRUM_FUNCTION_URL", "THRUM_LOG_LEVEL", "THRUM_SETTINGS"] {
        assert!(settings.remove(only_there), "{only_there}");
    }
    let instances = read("deploy/instances.yaml");
    let given = &instances["Resources"]["Ingest"]["Properties"]["Environment"]["Variables"];
    assert_eq!(names(given), settings);

    let containers = read("deploy/containers.yaml");
    let task = &containers["Resources"]["Task"]["Properties"]["ContainerDefinitions"][0];
    let mut given = BTreeSet::new();
    for kind in ["Environment", "Secrets"] {
        for one in task[kind].as_sequence().unwrap() {
            given.extend(strings(&one["Name"]));
        }
    }
    // The others are arguments, or in the table.
    for (there, here) in [
        ("THRUM_ADMIN_KEY_ARN", Some("THRUM_ADMIN_KEY")),
        ("THRUM_TABLE", Some("AWS_REGION")),
        ("THRUM_SITE_URL", None),
        ("THRUM_TIMER_SHARDS", None),
        ("THRUM_REGIONS", None),
        ("THRUM_FENCE_TABLE", None),
    ] {
        assert!(settings.remove(there), "{there}");
        settings.extend(here.map(str::to_owned));
    }
    assert_eq!(given, settings);

    let mut allowed_there = allowed(&function, "IngestRole");
    allowed_there.retain(|action| !action.starts_with("xray:"));
    assert_eq!(allowed(&instances, "IngestRole"), allowed_there);
    let (table, started) = (
        allowed(&containers, "TaskRole"),
        allowed(&containers, "StartRole"),
    );
    for action in &allowed_there {
        assert!(
            table.contains(action) || started.contains(action),
            "{action}"
        );
    }
    assert!(table.is_subset(&allowed_there), "{table:?}");
}

/// The anchor that GitHub generates for a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let plain = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    plain.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_alarm_links_a_runbook_and_notifies_the_alarm_topic() {
    let template = template();
    let runbooks = std::fs::read_to_string(format!("{ROOT}/docs/operating.md")).unwrap();
    let anchors: BTreeSet<String> = runbooks
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(anchor)
        .collect();
    let mut named = BTreeSet::new();
    for (name, resource) in template["Resources"].as_mapping().unwrap() {
        if !resource["Type"]
            .as_str()
            .unwrap()
            .starts_with("AWS::CloudWatch::")
            || resource["Type"] == "AWS::CloudWatch::Dashboard"
        {
            continue;
        }
        let description = resource["Properties"]["AlarmDescription"].as_str().unwrap();
        let (_, runbook) = description
            .split_once("docs/operating.md#")
            .expect("a link to a runbook");
        assert!(
            anchors.contains(runbook),
            "{name:?}: docs/operating.md has no section {runbook}"
        );
        named.insert(runbook.to_owned());
        let actions = strings(&resource["Properties"]["AlarmActions"]);
        let at_once = actions == ["AlarmTopic"];
        assert!(
            at_once || actions == ["TicketTopic"],
            "{name:?}: {actions:?}"
        );
        // The person who is called must be told when it is over.
        let over = strings(&resource["Properties"]["OKActions"]);
        assert!(over == actions || (over.is_empty() && !at_once), "{name:?}");
        assert!(
            !resource["Properties"]["TreatMissingData"].is_null()
                || resource["Type"] == "AWS::CloudWatch::CompositeAlarm"
        );
    }
    assert!(named.len() >= 10, "{named:?}");
}

/// A panic and a failure of the table are answered with a 5xx, so Lambda counts no error.
#[test]
fn canary_and_composite_alarm_watch_for_server_errors() {
    let template = template();
    let resources = &template["Resources"];
    let watching: Vec<&str> = resources
        .as_mapping()
        .unwrap()
        .iter()
        .filter(|(_, resource)| resource["Properties"]["MetricName"] == Sample::ServerErrors.name())
        .map(|(name, resource)| {
            // Also with Alarms=basic.
            assert!(resource["Condition"].is_null(), "{name:?}");
            name.as_str().unwrap()
        })
        .collect();
    let [alarm] = watching[..] else {
        panic!("{watching:?}");
    };
    let canary = &resources["Ingest"]["Properties"]["DeploymentPreference"]["Alarms"];
    assert!(strings(canary).contains(&alarm.to_owned()));
    let rule = format!("{:?}", resources["Broken"]["Properties"]["AlarmRule"]);
    assert!(rule.contains(&format!("${{{alarm}}}")), "{rule}");
}

/// The queue of notify is fair by project, so every message for it needs one.
#[test]
fn messages_for_notify_are_grouped_by_project() {
    let template = template();
    let targets = &template["Resources"]["ToNotify"]["Properties"]["Targets"];
    let group = &targets[0]["SqsParameters"]["MessageGroupId"];
    assert_eq!(group, "$.detail.project");
    let project = ProjectId::FIRST;
    let alert = AlertId(Uuid::nil());
    let channel = ChannelId(Uuid::nil());
    for work in [
        NotifyWork::Alert { project, alert },
        NotifyWork::Deliver {
            project,
            alert,
            channel,
        },
        NotifyWork::Flush { project, channel },
        NotifyWork::Subscribe { project, channel },
        NotifyWork::probe(UnixMs(0)),
    ] {
        let detail = serde_json::to_value(&work).unwrap();
        let project = work.project().to_string();
        assert_eq!(detail["project"], project, "{detail}");
    }
}

/// What a queue gives up on must be noticed.
#[test]
fn every_queue_has_a_dead_letter_queue_with_an_alarm() {
    let template = template();
    let resources = template["Resources"].as_mapping().unwrap();
    let alarms = format!(
        "{:?}",
        resources
            .values()
            .filter(|resource| resource["Type"] == "AWS::CloudWatch::Alarm")
            .map(|alarm| &alarm["Properties"]["Dimensions"])
            .collect::<Vec<_>>()
    );
    let queues = resources
        .iter()
        .filter(|(_, resource)| resource["Type"] == "AWS::SQS::Queue");
    let mut dead = BTreeSet::new();
    let mut all = BTreeSet::new();
    for (name, queue) in queues {
        all.insert(name.as_str().unwrap().to_owned());
        let target = &queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"];
        dead.extend(strings(target).iter().map(|arn| arn.replace(".Arn", "")));
    }
    // Lambda notes here what it gave up on.
    dead.insert("StreamFailures".to_owned());
    for queue in &dead {
        assert!(alarms.contains(&format!("{queue}.QueueName")), "{queue}");
    }
    for queue in all.difference(&dead) {
        let target = &template["Resources"][&**queue]["Properties"]["RedrivePolicy"];
        assert!(!target.is_null(), "{queue} has no dead-letter queue");
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let template = template();
    let body = plain(&template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]);
    let body: serde_json::Value = serde_json::from_str(body[0].as_str().unwrap()).unwrap();
    let mut shown = BTreeSet::new();
    for widget in body["widgets"].as_array().unwrap() {
        let mut last = ["", ""];
        for metric in widget["properties"]["metrics"].as_array().unwrap() {
            if metric[0] != "..." {
                for i in 0..2 {
                    let name = metric[i].as_str().unwrap();
                    last[i] = if name == "." { last[i] } else { name };
                }
            }
            if last[0] == NAMESPACE {
                shown.insert(last[1].to_owned());
            }
        }
    }
    let counted = Count::ALL
        .map(Count::name)
        .into_iter()
        .chain(Sample::ALL.map(Sample::name));
    assert_eq!(shown, counted.map(str::to_owned).collect());
}

#[test]
fn the_documented_limits_are_the_ones_in_the_code() {
    use thrum_schema::signal::{indicator, request, strategy, track, watch};
    use thrum_schema::{alert, channel, delivery, flip, monitor, ping, schedule, silence, state};
    let days = |seconds: i64| format!("{} days", seconds / 86_400);
    let limits: [(&str, Vec<String>); 16] = [
        ("name of a monitor", vec![number(monitor::MAX_NAME)]),
        (
            "tags, keywords, description",
            [monitor::MAX_TAGS, monitor::MAX_KEYWORDS, monitor::MAX_DESC]
                .map(number)
                .into(),
        ),
        (
            "period and grace",
            vec![days(schedule::MAX_PERIOD_S.into())],
        ),
        (
            "concurrent runs of a monitor",
            vec![number(state::MAX_RUNS)],
        ),
        ("maintenance windows", vec![number(silence::MAX_WINDOWS)]),
        ("alerts in a group", vec![number(delivery::MAX_GROUP)]),
        (
            "logged pings of a monitor",
            vec![ping::LOG_SLOTS.to_string(), ping::FAIL_SLOTS.to_string()],
        ),
        (
            "channels, keys per project",
            vec![number(channel::MAX_CHANNELS)],
        ),
        (
            "history",
            vec![days(flip::FLIP_TTL_S), days(alert::ALERT_TTL_S)],
        ),
        (
            "bars in a signal request",
            vec![number(request::MAX_INLINE_BARS)],
        ),
        (
            "series, strategies, watches per project",
            [strategy::MAX_STRATEGIES, watch::MAX_WATCHES]
                .map(number)
                .into(),
        ),
        (
            "watches, tracks per series",
            vec![number(track::MAX_TRACKS)],
        ),
        (
            "watches, tracks per series",
            vec![number(watch::MAX_WATCHES_OF_SERIES)],
        ),
        (
            "window of an indicator",
            [indicator::MAX_WINDOW, strategy::MAX_WINDOWS]
                .map(|n| number(n as usize))
                .into(),
        ),
        (
            "comparisons in a strategy",
            vec![number(strategy::MAX_LEAVES)],
        ),
        ("backtest", vec![number(request::MAX_BACKTEST_BARS)]),
    ];
    let page = std::fs::read_to_string(format!("{ROOT}/docs/limits.md")).unwrap();
    for (what, numbers) in limits {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {what} |")));
        let row = row.unwrap_or_else(|| panic!("docs/limits.md has no row {what:?}"));
        for number in numbers {
            assert!(row.contains(&number), "{row:?} lacks {number}");
        }
    }
}

/// A number as documents show it: `5,000`.
fn number(n: usize) -> String {
    if n < 1_000 {
        n.to_string()
    } else {
        format!("{},{:03}", n / 1_000, n % 1_000)
    }
}
