//! `thrum monitors export` and `import`.

use super::Format;
use crate::remote::{Part, Remote, cell, out, segment};
use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use thrum_schema::UnixMs;
use thrum_schema::dependency::is_cyclic;
use thrum_schema::expect::Expectation;
use thrum_schema::time::parse_span;
use thrum_schema::world::SystemWorld;

/// The fields of a monitor that are its configuration, in the order of an exported file.
const CONFIGURATION: [&str; 21] = [
    "name",
    "slug",
    "desc",
    "tags",
    "period_s",
    "schedule",
    "tz",
    "grace_s",
    "channels",
    "manual_resume",
    "methods",
    "keywords",
    "start_grace_s",
    "failures",
    "early_s",
    "all_runs",
    "remind_s",
    "windows",
    "parents",
    "expect",
    "snoozed_until",
];
/// Fields that are seconds, and may be durations such as `15m`.
const SECONDS: [&str; 5] = [
    "period_s",
    "grace_s",
    "start_grace_s",
    "early_s",
    "remind_s",
];
/// Fields that are true or false. YAML 1.1 had more words for that.
const SWITCHES: [&str; 3] = ["manual_resume", "all_runs", "paused"];

/// Writes the configuration of all monitors to a file, or to stdout.
pub async fn export(remote: &Remote, file: Option<&Path>, format: Format) -> anyhow::Result<()> {
    let (monitors, nameless): (Vec<Existing>, Vec<Existing>) = existing(remote)
        .await?
        .into_iter()
        .partition(|monitor| identity(&monitor.document).is_some());
    if !nameless.is_empty() {
        let n = nameless.len();
        eprintln!(
            "Monitors left out because an import could not identify them without a name or slug: {n}"
        );
    }
    let format = match file {
        Some(file) => format_of(file)?,
        None => format,
    };
    let documents: Vec<Value> = monitors
        .into_iter()
        .map(|monitor| monitor.document)
        .collect();
    let n = documents.len();
    let whole = json!({ "monitors": documents });
    let text = match format {
        Format::Yaml => to_yaml(whole)?,
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&whole)?),
    };
    match file {
        None => out(text.trim_end())?,
        Some(file) => {
            std::fs::write(file, text)
                .with_context(|| format!("can't write {}", file.display()))?;
            let monitors = if n == 1 { "monitor" } else { "monitors" };
            eprintln!("Wrote {n} {monitors} to {}", file.display());
        }
    }
    Ok(())
}

/// Words that some readers of YAML take for true, false or null.
const WORDS: [&str; 10] = [
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", "~",
];
/// Makes the writer quote a text; no text of a monitor has it.
const MARK: char = '\u{1}';

/// The document as YAML, with quotes around texts that other readers take for something else.
fn to_yaml(mut document: Value) -> anyhow::Result<String> {
    // YAML 1.1 also takes dates, and times such as 12:30.
    let like_number = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"-:._".contains(&b))
    };
    let misread =
        |text: &str| WORDS.contains(&text.to_ascii_lowercase().as_str()) || like_number(text);
    fn mark(value: &mut Value, misread: &impl Fn(&str) -> bool) {
        match value {
            Value::String(text) if misread(text) => text.insert(0, MARK),
            Value::Array(items) => items.iter_mut().for_each(|item| mark(item, misread)),
            Value::Object(fields) => fields.values_mut().for_each(|field| mark(field, misread)),
            _ => {}
        }
    }
    mark(&mut document, &misread);
    let text = serde_yaml_ng::to_string(&document)?;
    Ok(text.replace("\"\\x01", "\"").replace("\"\\u0001", "\""))
}

/// A monitor of the server.
struct Existing {
    uuid: String,
    /// Its configuration, as in a file.
    document: Value,
}

/// The server's monitors, sorted by name. Channels and parents appear by name if the name is unique, so that the file
/// also works on another server.
async fn existing(remote: &Remote) -> anyhow::Result<Vec<Existing>> {
    let channels = remote
        .list("/v1/channels", "channels", Part::default())
        .await?;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for channel in channels["channels"].as_array().into_iter().flatten() {
        names.insert(cell(&channel["id"]), cell(&channel["name"]));
    }
    let shared = |name: &String| names.values().filter(|other| *other == name).count() > 1;
    let reply = remote
        .list("/v1/monitors", "monitors", Part::default())
        .await?;
    let now = SystemWorld::arc().now();
    let monitors = || reply["monitors"].as_array().into_iter().flatten();
    let named: BTreeSet<String> = monitors()
        .flat_map(|monitor| monitor["parents"].as_array().into_iter().flatten())
        .map(cell)
        .collect();
    let parents: BTreeMap<String, String> = monitors()
        .map(|monitor| (cell(&monitor["unique_key"]), monitor))
        .filter(|(key, _)| named.contains(key))
        .map(|(key, monitor)| (key, reference(monitor, monitors)))
        .collect();
    let existing = monitors().map(|monitor| {
        let mut document = Map::new();
        for field in CONFIGURATION {
            match &monitor[field] {
                Value::Null => {}
                Value::Array(ids) if field == "channels" => {
                    let ids = ids.iter().map(cell).filter_map(|id| {
                        let name = names.get(&id)?;
                        Some(if shared(name) { id } else { name.clone() })
                    });
                    document.insert(field.into(), ids.collect());
                }
                Value::Array(keys) if field == "parents" => {
                    let keys = keys.iter().map(cell);
                    let parents: Value =
                        keys.filter_map(|key| parents.get(&key).cloned()).collect();
                    document.insert(field.into(), parents);
                }
                until if field == "snoozed_until" && is_past(until, now) => {}
                value => {
                    document.insert(field.into(), value.clone());
                }
            }
        }
        if monitor["status"] == "paused" {
            document.insert("paused".into(), true.into());
        }
        Existing {
            uuid: cell(&monitor["uuid"]),
            document: Value::Object(document),
        }
    });
    Ok(existing.collect())
}

/// How a file refers to a monitor: by its slug or name, if only this one of `all` has it, or else by
/// its UUID.
fn reference<'a, I: Iterator<Item = &'a Value>>(monitor: &Value, all: impl Fn() -> I) -> String {
    let unique = |text: &String| {
        let has = |one: &&Value| one["slug"] == **text || one["name"] == **text;
        !text.is_empty() && all().filter(has).count() == 1
    };
    let names = ["slug", "name"].map(|field| cell(&monitor[field]));
    let unique = names.into_iter().find(unique);
    unique.unwrap_or_else(|| cell(&monitor["uuid"]))
}

fn is_past(until: &Value, now: UnixMs) -> bool {
    let until = until.as_str().unwrap_or_default();
    UnixMs::parse("snoozed_until", until).is_ok_and(|until| until <= now)
}

/// What an import does with a monitor of the file.
enum Step {
    Same,
    Create(Value),
    /// The uuid of the monitor, and the fields that differ.
    Update(String, Value),
    /// Only its pause differs.
    Pause(String),
}

/// Creates and updates monitors from a file, or nothing if anything in it is wrong.
pub async fn import(remote: &Remote, file: &Path, dry_run: bool) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    let wanted = parse(&text, format_of(file)?)
        .with_context(|| format!("{} can't be imported", file.display()))?;
    import_all(remote, wanted, dry_run).await
}

/// Creates and updates monitors as these documents say, or nothing if anything in them is wrong. One
/// with a `uuid` is the monitor that has it; others are found by their slug or name.
///
/// # Errors
/// Something is wrong with them, or the server refused a request.
pub async fn import_all(
    remote: &Remote,
    mut wanted: Vec<Value>,
    dry_run: bool,
) -> anyhow::Result<()> {
    let own: Vec<Vec<String>> = wanted.iter_mut().map(normalize).collect();
    let before = existing(remote).await?;
    let steps = steps(&wanted, &before);
    let (order, mut errors) = order(&wanted);
    for (i, (own, step)) in own.into_iter().zip(&steps).enumerate() {
        // The server checks what only it knows, such as channels and its limits.
        let found = match own.is_empty() && errors.len() < MAX_ERRORS {
            true => check(remote, step, &wanted).await?,
            false => own,
        };
        errors.extend(found.into_iter().map(|error| place(i, &wanted[i], &error)));
        progress(i + 1, steps.len());
    }
    progress(0, 0);
    let created = steps.iter().filter(|step| matches!(step, Step::Create(_)));
    errors.extend(too_many(remote, created.count()).await?);
    if !errors.is_empty() {
        let count = errors.len();
        let shown = errors.iter().take(MAX_ERRORS).cloned();
        let shown: Vec<String> = shown.collect();
        bail!(
            "nothing was imported; fix {} and import again:\n{}",
            match count {
                1 => "this error".to_owned(),
                MAX_ERRORS.. => format!("these and more errors ({count})"),
                _ => format!("these {count} errors"),
            },
            shown.join("\n")
        );
    }
    let (mut created, mut updated, mut same) = (0, 0, 0);
    let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    for (done, i) in order.into_iter().enumerate() {
        let (Some(step), document) = (steps[i].take(), &wanted[i]) else {
            continue;
        };
        let label = label(document);
        if dry_run {
            match step {
                Step::Same => same += 1,
                Step::Create(_) => out(&format!("would create {label}"))?,
                Step::Update(uuid, changed) => {
                    out(&format!("would update {label}"))?;
                    let held = before.iter().find(|one| one.uuid == uuid);
                    let fields = changed.as_object().into_iter().flatten();
                    for (field, value) in fields {
                        let old = held.map_or(&Value::Null, |one| &one.document[field.as_str()]);
                        out(&format!("  {field}: {old} -> {value}"))?;
                    }
                }
                Step::Pause(_) => out(&format!("would update {label}: paused"))?,
            }
            continue;
        }
        let count = match &step {
            Step::Same => &mut same,
            Step::Create(_) => &mut created,
            Step::Update(..) | Step::Pause(_) => &mut updated,
        };
        *count += 1;
        let place = || format!("monitors[{i}] ({label})");
        let uuid = match step {
            Step::Same => continue,
            Step::Create(body) => {
                let reply = remote.call(Method::POST, "/v1/monitors", Some(body)).await;
                cell(&reply.with_context(place)?["uuid"])
            }
            Step::Update(uuid, body) => {
                let path = format!("/v1/monitors/{uuid}");
                let reply = remote.call(Method::PATCH, &path, Some(body)).await;
                reply.with_context(place)?;
                uuid
            }
            Step::Pause(uuid) => uuid,
        };
        pause(remote, &uuid, document).await.with_context(place)?;
        progress(done + 1, wanted.len());
    }
    if dry_run {
        return out(&format!("{same} unchanged"));
    }
    progress(0, 0);
    out(&format!(
        "{created} created, {updated} updated, {same} unchanged"
    ))
}

/// Why the server has no room for that many more monitors, if it has not.
async fn too_many(remote: &Remote, more: usize) -> anyhow::Result<Option<String>> {
    if more == 0 {
        return Ok(None);
    }
    let project = remote.call(Method::GET, "/v1/project", None).await?;
    let Some(limit) = project["limits"]["monitors"].as_u64() else {
        return Ok(None);
    };
    let now = project["monitors"].as_u64().unwrap_or(0);
    let is_full = now + more as u64 > limit;
    Ok(is_full.then(|| {
        format!(
            "  the project's plan allows {limit} monitors: it has {now}, and the file adds {more}"
        )
    }))
}

/// The most errors that are shown.
const MAX_ERRORS: usize = 100;

/// Shows how far an import is, if stderr is a terminal.
fn progress(done: usize, of: usize) {
    use std::io::{IsTerminal, Write};
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let text = if of == 0 {
            String::new()
        } else {
            format!("{done} of {of}")
        };
        let _ = write!(stderr, "\r\u{1b}[K{text}");
        let _ = stderr.flush();
    }
}

/// Pauses or resumes a monitor as the file says.
async fn pause(remote: &Remote, uuid: &str, document: &Value) -> anyhow::Result<()> {
    let Some(paused) = document["paused"].as_bool() else {
        return Ok(());
    };
    let path = format!("/v1/monitors/{}", segment(uuid)?);
    let monitor = remote.call(Method::GET, &path, None).await?;
    let action = match (monitor["status"] == "paused", paused) {
        (false, true) => "pause",
        (true, false) => "resume",
        _ => return Ok(()),
    };
    let path = format!("{path}/{action}");
    remote.call(Method::POST, &path, None).await.map(drop)
}

/// The monitors of a file.
fn parse(text: &str, format: Format) -> anyhow::Result<Vec<Value>> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let whole: Value = match format {
        Format::Yaml => serde_yaml_ng::from_str(text).context("it is not YAML")?,
        Format::Json => serde_json::from_str(text).context("it is not JSON")?,
    };
    let wanted = whole["monitors"].as_array().cloned();
    wanted.context("it has no list `monitors`; `thrum monitors export` shows the format")
}

/// Replaces durations by seconds, and converts values that YAML misreads (`name: 123`, `paused: off`). Returns
/// everything that is wrong.
fn normalize(document: &mut Value) -> Vec<String> {
    let Some(fields) = document.as_object_mut() else {
        return vec!["must be an object".to_owned()];
    };
    let mut errors = Vec::new();
    for (field, value) in fields.iter_mut() {
        match field.as_str() {
            name if SECONDS.contains(&name) => seconds(name, value, &mut errors),
            name if SWITCHES.contains(&name) => switch(name, value, &mut errors),
            "name" | "slug" | "desc" | "tz" | "methods" => text(value),
            "tags" => {
                // Also as one text.
                if let Value::String(tags) = value {
                    let tags = tags.split([',', ' ']).filter(|tag| !tag.is_empty());
                    *value = tags.collect();
                }
                value.as_array_mut().into_iter().flatten().for_each(text);
            }
            "channels" | "parents" => value.as_array_mut().into_iter().flatten().for_each(text),
            "windows" => {
                for (i, window) in value.as_array_mut().into_iter().flatten().enumerate() {
                    if let Some(duration) = window.get_mut("duration_s") {
                        seconds(&format!("windows[{i}].duration_s"), duration, &mut errors);
                    }
                }
            }
            "expect" => expect(value, &mut errors),
            name if CONFIGURATION.contains(&name) || name == "uuid" => {}
            name => errors.push(format!("unknown field `{name}`")),
        }
    }
    let now = SystemWorld::arc().now();
    if is_past(&document["snoozed_until"], now)
        && let Some(fields) = document.as_object_mut()
    {
        fields.remove("snoozed_until");
    }
    if identity(document).is_none() && document["uuid"].is_null() {
        errors.push("a slug or a name is required to identify the monitor".to_owned());
    }
    errors
}

/// Writes expectations as the server does, so that they can be compared.
fn expect(value: &mut Value, errors: &mut Vec<String>) {
    if value.is_null() {
        *value = json!({});
    }
    let Some(expected) = value.as_object_mut() else {
        errors.push("expect must have metrics, as in `expect: {rows: auto}`".to_owned());
        return;
    };
    for (name, rules) in expected.iter_mut() {
        match Expectation::parse(name, rules) {
            Ok(expectation) => *rules = expectation.to_json(),
            Err(error) => errors.push(error.to_string()),
        }
    }
}

fn seconds(field: &str, value: &mut Value, errors: &mut Vec<String>) {
    if let Value::String(text) = value {
        match parse_span(text) {
            Some(s) => *value = s.into(),
            None => errors.push(format!(
                "{field} must be seconds, or a duration such as 15m or 1h30m (got {text:?})"
            )),
        }
    }
}

fn switch(field: &str, value: &mut Value, errors: &mut Vec<String>) {
    if let Value::String(text) = value {
        match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" => *value = true.into(),
            "no" | "off" | "false" => *value = false.into(),
            _ => errors.push(format!("{field} must be true or false (got {text:?})")),
        }
    }
}

/// YAML takes `name: 123` for a number.
fn text(value: &mut Value) {
    if matches!(value, Value::Number(_) | Value::Bool(_)) {
        *value = value.to_string().into();
    }
}

/// Matches the monitors of a file with those of the server. Those with a slug come first, so that they get the monitor
/// of that slug; monitors with the same identity are matched in order.
fn steps(wanted: &[Value], before: &[Existing]) -> Vec<Step> {
    let mut used = vec![false; before.len()];
    let mut steps: Vec<Step> = wanted.iter().map(|_| Step::Same).collect();
    let has_slug = |document: &Value| !cell(&document["slug"]).is_empty();
    let (first, second): (Vec<usize>, Vec<usize>) =
        (0..wanted.len()).partition(|i| has_slug(&wanted[*i]));
    for i in first.into_iter().chain(second) {
        let document = &wanted[i];
        if let Some(uuid) = document["uuid"].as_str() {
            let found = before.iter().position(|one| one.uuid == uuid);
            if let Some(found) = found {
                used[found] = true;
            }
            steps[i] = step(document, found.map(|found| &before[found]));
            continue;
        }
        let Some((field, value)) = identity(document) else {
            continue;
        };
        let free = |j: &usize| !used[*j] && before[*j].document[field] == *value;
        let free: Vec<usize> = (0..before.len()).filter(free).collect();
        // Of several, the one that is like it in the other name, too.
        let other = if field == "slug" { "name" } else { "slug" };
        let like = |j: &&usize| cell(&before[**j].document[other]) == cell(&document[other]);
        let shared = wanted.iter().filter(|one| one[field] == *value).count() > 1 || free.len() > 1;
        let found = match free.iter().find(like) {
            Some(found) => Some(*found),
            None if shared => None,
            None => free.first().copied(),
        };
        if let Some(found) = found {
            used[found] = true;
        }
        steps[i] = step(document, found.map(|found| &before[found]));
    }
    steps
}

/// The order in which to import the monitors of a file, parents first, and what is wrong with their
/// dependencies.
fn order(wanted: &[Value]) -> (Vec<usize>, Vec<String>) {
    let parents: Vec<Vec<usize>> = wanted
        .iter()
        .map(|document| {
            let named = document["parents"].as_array().into_iter().flatten();
            named
                .filter_map(|parent| named_in(wanted, parent))
                .collect()
        })
        .collect();
    let cyclic = |i: &usize| is_cyclic(*i, |i| parents[i].clone());
    let errors = (0..wanted.len()).filter(cyclic).map(|i| {
        place(
            i,
            &wanted[i],
            "parents can't be used: the monitor would depend on itself",
        )
    });
    let mut order: Vec<usize> = Vec::new();
    let mut placed = vec![false; wanted.len()];
    let mut open: Vec<usize> = (0..wanted.len()).rev().collect();
    while let Some(i) = open.pop() {
        // On the second visit, its parents are already in `order`.
        if placed[i] {
            if !order.contains(&i) {
                order.push(i);
            }
            continue;
        }
        placed[i] = true;
        open.push(i);
        open.extend(parents[i].iter().filter(|parent| !placed[**parent]));
    }
    (order, errors.collect())
}

/// The monitor of a file that another one names as its parent.
fn named_in(wanted: &[Value], parent: &Value) -> Option<usize> {
    let named = |document: &Value| {
        ["uuid", "slug", "name"]
            .iter()
            .any(|f| document[*f] == *parent)
    };
    wanted.iter().position(named).filter(|_| parent != "")
}

/// What to do with a monitor of the file, and the one on the server.
fn step(document: &Value, existing: Option<&Existing>) -> Step {
    let mut body = document.clone();
    let paused = body.as_object_mut().and_then(|body| body.remove("paused"));
    let Some(existing) = existing else {
        return Step::Create(body);
    };
    let held = &existing.document;
    if let Some(body) = body.as_object_mut() {
        body.remove("uuid");
    }
    let fields = body.as_object().into_iter().flatten();
    let changed: Map<String, Value> = fields
        .filter(|(field, value)| !same_value(&held[field.as_str()], value))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    let uuid = existing.uuid.clone();
    let is_paused = held["paused"] == true;
    if !changed.is_empty() {
        Step::Update(uuid, Value::Object(changed))
    } else if paused.is_some_and(|paused| paused != is_paused) {
        Step::Pause(uuid)
    } else {
        Step::Same
    }
}

/// Whether a field already has a value; empty and absent are the same.
fn same_value(held: &Value, wanted: &Value) -> bool {
    let is_empty = |value: &Value| value.is_null() || *value == "";
    // The order of channels means nothing.
    let sorted = |value: &Value| {
        let mut texts: Vec<String> = value.as_array()?.iter().map(cell).collect();
        texts.sort_unstable();
        Some(texts)
    };
    held == wanted
        || is_empty(held) && is_empty(wanted)
        || sorted(held).is_some_and(|held| Some(held) == sorted(wanted))
}

/// What the server finds wrong with a step, without changing anything.
async fn check(remote: &Remote, step: &Step, wanted: &[Value]) -> anyhow::Result<Vec<String>> {
    let (method, path, body) = match step {
        Step::Create(body) => (Method::POST, "/v1/monitors?check=true".to_owned(), body),
        Step::Update(uuid, body) => {
            let path = format!("/v1/monitors/{uuid}?check=true");
            (Method::PATCH, path, body)
        }
        Step::Same | Step::Pause(_) => return Ok(Vec::new()),
    };
    let mut body = body.clone();
    // The server does not know yet what the file adds.
    if let Some(parents) = body.get_mut("parents").and_then(Value::as_array_mut) {
        parents.retain(|parent| named_in(wanted, parent).is_none());
    }
    match remote.try_call(method, &path, Some(body)).await? {
        Ok(_) => Ok(Vec::new()),
        Err(problem) => {
            let errors = problem["errors"].as_array().into_iter().flatten();
            let errors: Vec<String> = errors.map(|error| cell(&error["detail"])).collect();
            Ok(match errors.is_empty() {
                true => vec![cell(&problem["detail"])],
                false => errors,
            })
        }
    }
}

fn place(i: usize, document: &Value, error: &str) -> String {
    format!("  monitors[{i}] ({}): {error}", label(document))
}

fn label(document: &Value) -> String {
    match identity(document) {
        Some((_, value)) => value,
        None => "without a name".to_owned(),
    }
}

/// The field that identifies a monitor, `slug` or `name`, and its value.
fn identity(document: &Value) -> Option<(&'static str, String)> {
    ["slug", "name"].into_iter().find_map(|field| {
        let value = document[field].as_str().filter(|value| !value.is_empty());
        value.map(|value| (field, value.to_owned()))
    })
}

fn format_of(file: &Path) -> anyhow::Result<Format> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("yaml" | "yml") => Ok(Format::Yaml),
        Some("json") => Ok(Format::Json),
        _ => bail!("{} must end in .yaml, .yml or .json", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_people_mean_them() {
        let text = "\u{feff}monitors:\n- name: no\n  slug: 123\n  period_s: 15m\n  grace_s: 1h30m\n  \
                    manual_resume: yes\n  tags: [on, 7, db]\n  paused: off\n  desc: on\n";
        let mut wanted = parse(text, Format::Yaml).unwrap();
        assert_eq!(normalize(&mut wanted[0]), Vec::<String>::new());
        assert_eq!(
            wanted[0],
            json!({
                "name": "no", "slug": "123", "period_s": 900, "grace_s": 5_400, "manual_resume": true,
                "tags": ["on", "7", "db"], "paused": false, "desc": "on",
            })
        );
        let text =
            "{\"monitors\": [{\"nam\": \"x\", \"period_s\": \"soon\", \"all_runs\": \"maybe\"}]}";
        let mut wanted = parse(text, Format::Json).unwrap();
        let errors = normalize(&mut wanted[0]);
        assert_eq!(errors.len(), 4, "{errors:?}");
        // Words that other readers of YAML take for something else are quoted.
        let words = [
            "no",
            "on",
            "yes",
            "off",
            "y",
            "n",
            "null",
            "~",
            "1e3",
            "0123",
            "2026-11-28",
            "12:30",
        ];
        let exported = to_yaml(json!({ "tags": words })).unwrap();
        for line in exported.lines().skip(1) {
            assert!(line.contains(['\'', '"']), "{line}");
        }
        let read: Value = serde_yaml_ng::from_str(&exported).unwrap();
        assert_eq!(read, json!({ "tags": words }));
    }

    #[test]
    fn monitors_with_the_same_slug_are_matched_by_name_and_order() {
        let before = |uuid: &str, name: &str| Existing {
            uuid: uuid.to_owned(),
            document: json!({"name": name, "slug": "dup", "grace_s": 60}),
        };
        let before = [before("1", "a"), before("2", "b"), before("3", "")];
        let wanted = [
            json!({"name": "b", "slug": "dup", "grace_s": 60}),
            json!({"name": "a", "slug": "dup", "grace_s": 90}),
            json!({"slug": "dup", "paused": true}),
            json!({"slug": "dup"}),
        ];
        let steps = steps(&wanted, &before);
        assert!(matches!(&steps[0], Step::Same));
        assert!(
            matches!(&steps[1], Step::Update(uuid, body) if uuid == "1" && *body == json!({"grace_s": 90}))
        );
        assert!(matches!(&steps[2], Step::Pause(uuid) if uuid == "3"));
        assert!(matches!(&steps[3], Step::Create(_)));
        // An entry without a slug does not take the monitor that another one identifies by its slug.
        let before = ["1", "2"].map(|uuid| Existing {
            uuid: uuid.to_owned(),
            document: json!({"name": "backup", "slug": if uuid == "1" { "backup" } else { "" }}),
        });
        let wanted = [
            json!({"name": "backup"}),
            json!({"name": "backup", "slug": "backup"}),
        ];
        let steps = super::steps(&wanted, &before);
        assert!(steps.iter().all(|step| matches!(step, Step::Same)));
    }
}
