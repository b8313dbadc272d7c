use super::template::{Values, body, check};
use super::*;
use crate::channel::ChannelKind;
use crate::flip::Reason;
use crate::id::ChannelId;
use crate::project::Templates;

fn channel() -> Channel {
    Channel {
        name: "ops".into(),
        daily_limit: Some(3),
        ..Channel::new(
            ChannelId(Uuid::from_u128(9)),
            ProjectId::FIRST,
            ChannelKind::Email {
                to: "ops@example.org".into(),
            },
            UnixMs(0),
        )
    }
}

fn project() -> Project {
    Project {
        badge_secret: "secret".into(),
        zone: Some("Europe/Berlin".into()),
        ..Project::new(ProjectId::FIRST, "default")
    }
}

fn named_alert(name: &str, what: AlertKind, reason: Reason) -> Alert {
    let at = UnixMs::parse("at", "2026-11-28T09:56:39Z").unwrap();
    let mut alert = sample(what, at + 60_000);
    alert.id = AlertId(Uuid::from_u128(
        u128::from(at.0.unsigned_abs() + 7_200_000) << 80,
    ));
    let subject = alert.monitor.as_mut().unwrap();
    name.clone_into(&mut subject.name);
    let flip = alert.flip.as_mut().unwrap();
    flip.reason = reason;
    if reason == Reason::Timeout {
        (flip.why, flip.deadline) = (None, Some(flip.at));
    }
    if what == AlertKind::Up {
        flip.missed = 3;
    }
    alert
}

fn render(alert: &Alert) -> Notice {
    let project = project();
    let voice = Voice::new(&project, Some("https://thrum.example.org"));
    Notice::of_alert(alert, &channel(), &voice)
}

#[test]
fn a_message_says_what_happened_since_when_why_and_what_helps() {
    let alert = named_alert("backup", AlertKind::Down, Reason::Fail);
    let notice = render(&alert);
    assert_eq!(notice.title, "DOWN: backup: exit status 4");
    let link = notice.link.clone().unwrap();
    assert!(link.starts_with("https://thrum.example.org/a/"), "{link}");
    assert_eq!(
        notice.body(),
        format!(
            "backup has been DOWN since 2026-11-28 10:56:39 CET (09:56:39 UTC): exit status 4.\n\
             \n\
             Last success: 2026-11-27 10:56:39 CET (09:56:39 UTC), 1 d before it went down\n\
             Schedule: every 1 d, grace 1 h\n\
             Tags: prod, db\n\
             \n\
             How to restore: https://wiki.example.org/backup\n\
             \n\
             Last output:\n    pg_dump: error: connection to server at \"db\" failed\n\
             \n\
             Open, acknowledge or snooze: {link}"
        )
    );
}

#[test]
fn a_missed_deadline_is_explained() {
    let alert = named_alert("backup", AlertKind::Down, Reason::Timeout);
    let notice = render(&alert);
    assert_eq!(notice.title, "DOWN: backup missed its deadline");
    assert_eq!(
        notice.text,
        "backup has been DOWN since 2026-11-28 10:56:39 CET (09:56:39 UTC): a ping was due at \
         09:56:39 CET, but none arrived within the grace of 1 h."
    );
}

#[test]
fn a_recovery_tells_the_length_of_the_outage_and_a_reminder_how_long_it_lasts() {
    let notice = render(&named_alert("backup", AlertKind::Up, Reason::Success));
    assert_eq!(notice.title, "UP: backup (was down for 2 h 5 min)");
    assert!(
        notice.text.starts_with(
            "backup is UP again. It was down for 2 h 5 min and recovered at 2026-11-28 10:56:39 CET"
        ) && notice.text.ends_with("It missed 3 runs."),
        "{}",
        notice.text
    );
    assert_eq!(notice.output, None);
    let notice = render(&named_alert("backup", AlertKind::Reminder, Reason::Fail));
    assert_eq!(notice.title, "Still DOWN: backup (for 2 h)");
    assert!(
        notice
            .text
            .starts_with("backup has been DOWN for 2 h. It went down at")
    );
}

#[test]
fn a_channel_that_is_not_the_first_is_given_the_reason() {
    let project = project();
    let voice = Voice::new(&project, None);
    let mut alert = named_alert("backup", AlertKind::Down, Reason::Fail);
    let later = Channel {
        after_s: Some(600),
        ..channel()
    };
    let text = Notice::of_alert(&alert, &later, &voice).text;
    assert!(
        text.ends_with("exit status 4. Nobody has acknowledged it yet."),
        "{text}"
    );
    alert.added = Some([channel().id.to_string()].into());
    let text = Notice::of_alert(&alert, &channel(), &voice).text;
    assert!(
        text.ends_with("It comes here because another channel failed."),
        "{text}"
    );
}

#[test]
fn a_group_names_its_sorted_members() {
    let project = project();
    let voice = Voice::new(&project, None);
    let title = |alerts: &[Alert]| Notice::of_group(alerts[0].id, alerts, &voice).title;
    let of = |name: &str, what| named_alert(name, what, Reason::Fail);
    let downs: Vec<Alert> = (1..=12)
        .rev()
        .map(|n| of(&format!("web-{n:02}"), AlertKind::Down))
        .collect();
    assert_eq!(title(&downs), "DOWN: web-01, web-02, web-03 and 9 more");
    assert_eq!(title(&downs[10..]), "DOWN: web-01 and web-02");
    let ups = [of("b", AlertKind::Up), of("a", AlertKind::Up)];
    assert_eq!(title(&ups), "UP: a and b");
    let mixed = [of("b", AlertKind::Up), of("a", AlertKind::Down)];
    let notice = Notice::of_group(mixed[0].id, &mixed, &voice);
    assert_eq!(notice.title, "1 DOWN, 1 UP: a and b");
    assert!(
        notice.text.starts_with("- a has been DOWN"),
        "{}",
        notice.text
    );
    let many: Vec<Alert> = (0..60)
        .map(|n| of(&format!("web-{n:02}"), AlertKind::Down))
        .collect();
    let notice = Notice::of_group(many[0].id, &many, &voice);
    assert!(notice.text.ends_with("- … and 10 more"));
}

#[test]
fn a_hostile_name_stays_on_its_line() {
    let alert = named_alert("<b>\r\nBcc: x@y.z", AlertKind::Down, Reason::Fail);
    assert!(!render(&alert).title.contains(['\r', '\n']));
}

#[test]
fn output_is_the_last_lines_as_valid_text() {
    assert_eq!(tail(b"  \n\t"), None);
    assert_eq!(tail(b"a\x1b[31m\xff\nb\n\n").unwrap(), "a[31m\u{fffd}\nb");
    let long = (0..1_000)
        .map(|n| format!("line {n}\n"))
        .collect::<String>();
    let tail_of = tail(long.as_bytes()).unwrap();
    assert!(tail_of.len() <= MAX_OUTPUT, "{}", tail_of.len());
    assert!(tail_of.starts_with("…\nline "), "{tail_of}");
    assert!(tail_of.ends_with("line 999"));
    let one_line = tail("é".repeat(5_000).as_bytes()).unwrap();
    assert!(one_line.len() <= MAX_OUTPUT);
}

#[test]
fn a_projects_texts_replace_those_of_thrum() {
    let mut project = project();
    project.templates = Templates {
        title: "{{ event|upper }} {{ name }}\n".into(),
        text: "{{ reason }}{% if tags %} [{{ tags|join(' ') }}]{% endif %}".into(),
    };
    let alert = named_alert("backup", AlertKind::Down, Reason::Fail);
    let voice = Voice::new(&project, None);
    let notice = Notice::of_alert(&alert, &channel(), &voice);
    assert_eq!(notice.title, "DOWN backup");
    assert_eq!(notice.text, "exit status 4 [prod db]");
    project.templates.title = "{% if event == 'up' %}{{ title }}{% endif %}".into();
    let notice = Notice::of_alert(&alert, &channel(), &Voice::new(&project, None));
    assert_eq!(
        notice.title, "DOWN: backup: exit status 4",
        "a blank one is left out"
    );
    project.templates.text = "{{ nothing }}".into();
    let notice = Notice::of_alert(&alert, &channel(), &Voice::new(&project, None));
    assert!(
        notice.text.contains("backup has been DOWN") && notice.text.contains("template failed"),
        "{}",
        notice.text
    );
}

#[test]
fn values_cannot_break_out_of_a_json_body() {
    let alert = named_alert("a\", \"admin\": \"", AlertKind::Down, Reason::Fail);
    let values = Values::new(&render(&alert), Some(&alert));
    let made = body(r#"{"text": {{ name }}, "tags": {{ tags }}}"#, &values).unwrap();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["text"], "a\", \"admin\": \"");
    assert_eq!(made["tags"][0], "prod");
    assert!(made.get("admin").is_none());
    let quoted = body(r#"{"text": "{{ name }}"}"#, &values).unwrap_err();
    assert!(quoted.contains("bring their own quotes"), "{quoted}");
    assert_eq!(body("x={{ event }}", &values).unwrap(), "x=down");
}

#[test]
fn a_template_has_bounds() {
    let alert = named_alert("backup", AlertKind::Down, Reason::Fail);
    let samples = [Values::new(&render(&alert), Some(&alert))];
    let check = |text: &str| check("title", text, false, &samples).map_err(|e| e.problem);
    assert!(check("{{ title }}").is_ok());
    for (bad, says) in [
        ("{{ titel }}", "undefined"),
        ("{% if %}", "line 1"),
        (
            "{% for i in range(9000) %}{% for j in range(9000) %}x{% endfor %}{% endfor %}",
            "fuel",
        ),
        ("{{ 'x' * 100000 }}", "longer than"),
        (&"x".repeat(20_000), "at most"),
    ] {
        let error = check(bad).unwrap_err();
        assert!(error.contains(says), "{bad}: {error}");
    }
}
