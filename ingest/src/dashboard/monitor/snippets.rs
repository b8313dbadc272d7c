//! Snippets that ping a monitor, with its own schedule where the tool can express it.

use crate::http::site::Site;
use thrum_schema::{Monitor, Schedule};

/// A snippet to copy.
pub struct Snippet {
    pub name: &'static str,
    pub id: &'static str,
    pub text: String,
}

/// A cron expression that matches a schedule as closely as possible, and its time zone unless UTC.
fn cron_of(schedule: &Schedule) -> (String, Option<&str>) {
    match schedule {
        Schedule::Cron { expr, tz } => (expr.clone(), Some(tz.as_str()).filter(|tz| *tz != "UTC")),
        Schedule::OnCalendar { .. } => ("0 3 * * *".to_owned(), None),
        Schedule::Simple { period_s } => {
            let minutes = (period_s / 60).max(1);
            let cron = match minutes {
                1 => "* * * * *".to_owned(),
                2..60 => format!("*/{minutes} * * * *"),
                60..120 => "0 * * * *".to_owned(),
                120..1_440 => format!("0 */{} * * *", minutes / 60),
                1_440..10_080 => "0 3 * * *".to_owned(),
                _ => "0 3 * * 0".to_owned(),
            };
            (cron, None)
        }
    }
}

/// The schedule lines of a systemd timer.
fn timer_of(schedule: &Schedule) -> String {
    match schedule {
        Schedule::OnCalendar { expr, tz } => {
            let lines = expr.lines().map(|line| format!("OnCalendar={line} {tz}"));
            lines.collect::<Vec<_>>().join("\n")
        }
        Schedule::Cron { .. } => "OnCalendar=…".to_owned(),
        Schedule::Simple { period_s } => format!("OnUnitActiveSec={period_s}\nOnBootSec=60"),
    }
}

/// The snippets for a monitor: curl, `thrum exec`, cron, systemd and Kubernetes, and its e-mail address.
pub fn of(monitor: &Monitor, site: &Site, mail_domain: Option<&str>) -> Vec<Snippet> {
    let url = format!("{}/ping/{}", site.root, monitor.id);
    let curl = "curl -fsS -m 10 --retry 5 -o /dev/null";
    let (cron, zone) = cron_of(&monitor.schedule);
    let cron_zone = zone.map(|tz| format!("CRON_TZ={tz}\n")).unwrap_or_default();
    let job_zone = zone
        .map(|tz| format!("  timeZone: {tz}\n"))
        .unwrap_or_default();
    let timer = timer_of(&monitor.schedule);
    let job = if monitor.slug.is_empty() {
        "job"
    } else {
        &monitor.slug
    };
    let snippet = |name, id, text| Snippet { name, id, text };
    let mut snippets = vec![
        snippet("curl", "curl", format!("{curl} {url}")),
        snippet(
            "Job with start, result and duration",
            "exec",
            format!("thrum exec {url} -- ./job.sh"),
        ),
        snippet(
            "cron",
            "cron",
            format!("{cron_zone}{cron} {curl} {url}/start; ./job.sh; {curl} {url}/$?"),
        ),
        snippet(
            "systemd: lines for the service and its timer",
            "systemd",
            format!(
                "[Service]\nExecStartPre=-{curl} {url}/start\nExecStopPost=-/bin/sh -c 'if [ \"$$SERVICE_RESULT\" = success ]; \
                 then r=0; else r=fail; fi; {curl} {url}/$$r'\n\n[Timer]\n{timer}"
            ),
        ),
        snippet(
            "Kubernetes",
            "kubernetes",
            format!(
                "apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: {job}\nspec:\n  schedule: \"{cron}\"\n{job_zone}  \
                 jobTemplate:\n    spec:\n      template:\n        spec:\n          restartPolicy: Never\n          \
                 containers:\n            - name: {job}\n              image: your/image\n              command: [\"sh\", \
                 \"-c\"]\n              args:\n                - |\n                  {curl} {url}/start\n                  \
                 ./job.sh; code=$?\n                  {curl} {url}/$code\n                  exit $code"
            ),
        ),
    ];
    // cron and Kubernetes start jobs at most once per minute.
    if matches!(monitor.schedule, Schedule::Simple { period_s: ..60 }) {
        snippets.retain(|snippet| !["cron", "kubernetes"].contains(&snippet.id));
    }
    if let Some(domain) = mail_domain {
        let address = format!("{}@{domain}", monitor.id);
        snippets.push(snippet("E-mail address", "email", address));
    }
    snippets
}
