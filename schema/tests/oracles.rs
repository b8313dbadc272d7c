//! Schedules compared with the programs that run them: random expressions, zones and times, many of them near a
//! change of the clock. The oracle of cron is the `cronsim` package, that of calendar events is systemd.
//!
//! `THRUM_TEST_PYTHON` is a Python with `cronsim` and `tzdata`. `THRUM_ORACLE_CASES` is the number of cases of each
//! test. Without an oracle, a test reports that it is skipped.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use thrum_schema::zone::Zone;
use thrum_schema::{Schedule, UnixMs};

/// Zones whose rules have been the same for years, so that the oracles' zone data may be older. Clocks change at
/// midnight in Beirut and Cairo and back to midnight in the Azores, by half an hour on Lord Howe Island, by two
/// hours at Troll.
const ZONES: [&str; 15] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Pacific/Chatham",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Antarctica/Troll",
];

/// Days on which the clock of one of [`ZONES`] changes.
const NIGHTS: [&str; 20] = [
    "2027-03-14",
    "2027-03-28",
    "2027-04-04",
    "2027-04-25",
    "2027-04-30",
    "2027-09-05",
    "2027-09-26",
    "2027-10-03",
    "2027-10-29",
    "2027-10-31",
    "2027-11-07",
    "2028-03-12",
    "2028-03-26",
    "2028-04-02",
    "2028-04-28",
    "2028-09-03",
    "2028-10-01",
    "2028-10-27",
    "2028-10-29",
    "2028-11-05",
];

struct Case {
    expr: String,
    zone: &'static str,
    after: UnixMs,
}

fn cases(variable_default: usize) -> usize {
    let set = std::env::var("THRUM_ORACLE_CASES").ok();
    set.map_or(variable_default, |cases| {
        cases.parse().expect("THRUM_ORACLE_CASES is a number")
    })
}

fn random_case(rng: &mut StdRng, expression: fn(&mut StdRng) -> String) -> Case {
    let after = if rng.random_bool(0.7) {
        let night = NIGHTS.choose(rng).unwrap();
        let midnight = UnixMs::parse("night", &format!("{night}T00:00:00Z")).unwrap();
        midnight + rng.random_range(-86_400..86_400) * 1000
    } else {
        UnixMs::from_secs(rng.random_range(1_790_000_000..1_893_456_000))
    };
    Case {
        expr: expression(rng),
        zone: ZONES.choose(rng).unwrap(),
        after,
    }
}

/// What Thrum says: the next time in seconds, or that the expression is refused or over.
fn ours(case: &Case) -> String {
    match Schedule::parse(&case.expr, case.zone) {
        Err(_) => "refused".to_owned(),
        Ok(schedule) => match schedule.next_after(case.after) {
            Some(at) => (at.0 / 1000).to_string(),
            None => "never".to_owned(),
        },
    }
}

fn show(seconds: &str) -> String {
    seconds
        .parse()
        .map_or(seconds.to_owned(), |s| UnixMs::from_secs(s).to_string())
}

/// Deliberate differences.
fn is_deliberate(Case { expr, zone, after }: &Case, theirs: &str, ours: &str) -> bool {
    // systemd 252 allows fewer days from the end with each item of a list: `~2,26` but not `~1,2,26`.
    let day = expr.split(' ').find_map(|word| word.split_once('~'));
    if day.is_some_and(|(_, day)| day.contains(',')) && theirs == "refused" {
        return true;
    }
    // Thrum refuses what never comes, and rounds fractions of a second down.
    if (theirs, ours) == ("never", "refused") || theirs == &*(after.0 / 1000).to_string() {
        return true;
    }
    // systemd refuses two spaces before a zone, and finds no time at all ("resource deadlock avoided") where a
    // repetition without an end, such as `0/5:00`, leaves its field on a month's last day. Or it finds only a later
    // one: there, and after a gap of two hours.
    let later = theirs
        .parse()
        .ok()
        .zip(ours.parse().ok())
        .is_some_and(|(theirs, ours): (i64, i64)| theirs > ours);
    let odd = ["Antarctica/Troll", "Pacific/Chatham"];
    let odd = odd.iter().any(|odd| expr.contains(odd) || zone == odd);
    // Such a repetition leaves its field into the next day.
    let own = expr.rsplit(' ').next().and_then(Zone::named);
    let own = own.or_else(|| Zone::named(zone)).unwrap();
    let day = |at: UnixMs| {
        let offset = own.offset_s(at);
        (at.0 / 1000 + i64::from(offset)).div_euclid(86_400)
    };
    let next_day = ours
        .parse()
        .is_ok_and(|ours| expr.contains('/') && day(UnixMs::from_secs(ours)) > day(*after));
    if theirs == "failed"
        || theirs == "refused" && expr.contains("  ")
        || later && !is_cron(expr) && (odd || next_day && has_open_repetition(expr))
    {
        return true;
    }
    // cronsim leaves out the first hour of a day that begins at one o'clock: `* 1 * * 0` on such a Sunday.
    let offset = |at: UnixMs| i64::from(Zone::named(zone).unwrap().offset_s(at));
    ours.parse().is_ok_and(|seconds: i64| {
        let at = UnixMs::from_secs(seconds);
        let before = offset(at - 1);
        before < offset(at) && (seconds + before) % 86_400 == 0 && is_cron(expr)
    })
}

/// Whether an item of a list is `a/n`.
fn has_open_repetition(expr: &str) -> bool {
    let mut items = expr.split([' ', ',', ':', '-', '~']);
    items.any(|item| {
        item.contains('/') && !item.contains("..") && !item.contains(char::is_alphabetic)
    })
}

fn is_cron(expr: &str) -> bool {
    expr.split_whitespace().count() == 5
}

/// Compares all answers and shows the first differences.
fn compare(cases: &[Case], theirs: &[String]) {
    assert_eq!(cases.len(), theirs.len(), "the oracle answered every case");
    let (mut differences, mut deliberate) = (0, 0);
    let mut shown = String::new();
    for (case, theirs) in cases.iter().zip(theirs) {
        let ours = ours(case);
        if ours == *theirs {
            continue;
        }
        deliberate += 1;
        if !is_deliberate(case, theirs, &ours) {
            differences += 1;
            if differences <= 20 {
                let Case { expr, zone, after } = case;
                let (theirs, ours) = (show(theirs), show(&ours));
                writeln!(
                    shown,
                    "{expr:?} in {zone} after {after}: {theirs}, not {ours}"
                )
                .unwrap();
            }
        }
    }
    assert!(
        differences == 0,
        "{differences} of {} cases differ:\n{shown}",
        cases.len()
    );
    assert!(
        deliberate * 10 < cases.len(),
        "{deliberate} deliberate differences"
    );
    let answered = theirs.iter().filter(|answer| answer.as_str() != "refused");
    assert!(answered.count() > cases.len() / 2, "most cases have a time");
}

fn number(rng: &mut StdRng, low: u32, high: u32) -> String {
    // Sometimes just outside.
    let value = if rng.random_bool(0.01) {
        *[low.wrapping_sub(1).min(99), high + 1].choose(rng).unwrap()
    } else {
        rng.random_range(low..=high)
    };
    value.to_string()
}

fn cron_field(rng: &mut StdRng, low: u32, high: u32, names: &[&str]) -> String {
    let item = |rng: &mut StdRng| {
        let value = |rng: &mut StdRng| match names.choose(rng) {
            Some(name) if rng.random_bool(0.1) => (*name).to_owned(),
            _ => number(rng, low, high),
        };
        let mut item = match rng.random_range(0..10) {
            0..5 => value(rng),
            5..7 => {
                let first = rng.random_range(low..=high);
                format!("{first}-{}", number(rng, first, high))
            }
            7 => format!("{}-{}", value(rng), value(rng)),
            _ => "*".to_owned(),
        };
        if rng.random_bool(0.3) {
            let step = rng.random_range(0..=high.min(20));
            write!(item, "/{}", if step == 0 { 2 } else { step }).unwrap();
        }
        item
    };
    if rng.random_bool(0.4) {
        return "*".to_owned();
    }
    let items = [1, 1, 1, 2, 3].choose(rng).unwrap();
    let items: Vec<String> = (0..*items).map(|_| item(rng)).collect();
    items.join(",")
}

fn cron(rng: &mut StdRng) -> String {
    const MONTHS: [&str; 3] = ["jan", "FEB", "Oct"];
    const WEEKDAYS: [&str; 4] = ["sun", "MON", "Fri", "sat"];
    let hour = match rng.random_range(0..3) {
        // Where clocks change.
        0 => rng.random_range(0..4).to_string(),
        _ => cron_field(rng, 0, 23, &[]),
    };
    let mut day = match rng.random_range(0..12) {
        0 => "L".to_owned(),
        1 => "LW".to_owned(),
        2 => format!("L,{}", rng.random_range(1..29)),
        _ => cron_field(rng, 1, 31, &[]),
    };
    let mut weekday = match rng.random_range(0..12) {
        0 => format!("{}L", rng.random_range(0..=7)),
        1 => format!("{}#{}", rng.random_range(0..=7), rng.random_range(1..=5)),
        2 => format!(
            "fri#{},{}",
            rng.random_range(0..=6),
            rng.random_range(0..=7)
        ),
        _ => cron_field(rng, 0, 7, &WEEKDAYS),
    };
    // Most days match every day, so that the clock matters.
    if rng.random_bool(0.5) {
        (day, weekday) = ("*".to_owned(), "*".to_owned());
    }
    let minute = cron_field(rng, 0, 59, &[]);
    let month = match rng.random_bool(0.6) {
        true => "*".to_owned(),
        false => cron_field(rng, 1, 12, &MONTHS),
    };
    let mut expr = format!("{minute} {hour} {day} {month} {weekday}");
    if rng.random_bool(0.05) {
        let at = rng.random_range(0..expr.len());
        let with = ["", "-", "/", ",", "*", "L", "#", "0", "9", "W", "?"];
        expr.replace_range(at..=at, with.choose(rng).unwrap());
    }
    expr
}

#[test]
fn cron_agrees_with_cronsim() {
    let Some(python) = std::env::var_os("THRUM_TEST_PYTHON") else {
        eprintln!("SKIPPED: THRUM_TEST_PYTHON is not set; see CONTRIBUTING.md");
        return;
    };
    let mut rng = StdRng::seed_from_u64(1);
    let cases: Vec<Case> = std::iter::repeat_with(|| random_case(&mut rng, cron))
        // Other numbers of words are not cron to Thrum.
        .filter(|case| is_cron(&case.expr))
        .take(cases(10_000))
        .collect();
    let mut lines = String::new();
    for Case { expr, zone, after } in &cases {
        writeln!(lines, "{expr}\t{zone}\t{}", after.0 / 1000).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles/cron.py");
    let mut oracle = Command::new(python)
        .arg(script)
        // Zones of the package `tzdata`, not of the system.
        .env("PYTHONTZPATH", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut input = oracle.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = oracle.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let theirs: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    compare(&cases, &theirs);
}

fn calendar_part(rng: &mut StdRng, low: u32, high: u32) -> String {
    let item = |rng: &mut StdRng| {
        let mut item = number(rng, low, high);
        match rng.random_range(0..10) {
            0..2 => {
                let first = rng.random_range(low..=high);
                item = format!("{first}..{}", number(rng, first, high));
            }
            2 => write!(item, "..{}", number(rng, low, high)).unwrap(),
            _ => {}
        }
        if rng.random_bool(0.25) {
            write!(item, "/{}", rng.random_range(0..=high.min(20))).unwrap();
        }
        item
    };
    if rng.random_bool(0.4) {
        return "*".to_owned();
    }
    let items = [1, 1, 1, 2, 3].choose(rng).unwrap();
    let items: Vec<String> = (0..*items).map(|_| item(rng)).collect();
    items.join(",")
}

fn calendar(rng: &mut StdRng) -> String {
    const WORDS: [&str; 13] = [
        "minutely",
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "quarterly",
        "yearly",
        "annually",
        "semi-annually",
        "semiannually",
        "bi-annually",
        "Biannually",
        "DAILY",
    ];
    const WEEKDAYS: [&str; 10] = [
        "Mon..Fri",
        "Sat,Sun",
        "Sun",
        "mon",
        "Tuesday",
        "Sat..Mon",
        "Wed-Fri",
        "Mon,",
        "Mon..",
        "Fri..Sun,Mon",
    ];
    let mut words = Vec::new();
    if rng.random_bool(0.08) {
        words.push((*WORDS.choose(rng).unwrap()).to_owned());
    } else {
        if rng.random_bool(0.2) {
            words.push((*WEEKDAYS.choose(rng).unwrap()).to_owned());
        }
        if rng.random_bool(0.5) {
            let year = match rng.random_range(0..10) {
                0 => format!("{}-", rng.random_range(2026..2031)),
                1 => format!("{}-", rng.random_range(20..40)),
                2 => format!(
                    "{}..{}-",
                    rng.random_range(2020..2028),
                    rng.random_range(2028..2040)
                ),
                3 => "2027/2-".to_owned(),
                4 | 5 => String::new(),
                _ => "*-".to_owned(),
            };
            let month = match rng.random_bool(0.6) {
                true => "*".to_owned(),
                false => calendar_part(rng, 1, 12),
            };
            let (sign, last) = if rng.random_bool(0.2) {
                ('~', 28)
            } else {
                ('-', 31)
            };
            let day = match rng.random_bool(0.4) {
                true => "*".to_owned(),
                false => calendar_part(rng, 1, last),
            };
            words.push(format!("{year}{month}{sign}{day}"));
        }
        if words.is_empty() || rng.random_bool(0.8) {
            let hour = match rng.random_range(0..3) {
                // Where clocks change.
                0 => rng.random_range(0..4).to_string(),
                _ => calendar_part(rng, 0, 23),
            };
            let mut time = format!("{hour}:{}", calendar_part(rng, 0, 59));
            match rng.random_range(0..10) {
                0..3 => write!(time, ":{}", calendar_part(rng, 0, 59)).unwrap(),
                3 => write!(time, ":{}.5", rng.random_range(0..60)).unwrap(),
                _ => {}
            }
            words.push(time);
        }
    }
    if rng.random_bool(0.1) {
        words.push((*ZONES.choose(rng).unwrap()).to_owned());
    }
    let mut expr = words.join(" ");
    if rng.random_bool(0.05) {
        let at = rng.random_range(0..expr.len());
        let with = ["", "-", "/", ",", "*", ".", "~", "0", "9", " ", ":"];
        expr.replace_range(at..=at, with.choose(rng).unwrap());
    }
    expr.trim().to_owned()
}

/// systemd's next time for cases of one zone and time, in seconds.
fn systemd(zone: &str, after: UnixMs, exprs: &[&str]) -> Vec<String> {
    let output = Command::new("systemd-analyze")
        .args([
            "calendar",
            &format!("--base-time=@{}", after.0 / 1000),
            "--",
        ])
        .args(exprs)
        .env("TZ", zone)
        .env("LC_ALL", "C")
        .output()
        .expect("systemd-analyze starts");
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    // What it refuses goes to stderr: match the answers by the expression. An expression that it would write the same
    // way has no "Original form".
    let field = |answer: &str, name: &str| {
        let mut lines = answer.lines();
        lines.find_map(|line| line.trim_start().strip_prefix(name).map(str::to_owned))
    };
    let form = |answer: &str| {
        let form = field(answer, "Original form: ");
        form.or_else(|| field(answer, "Normalized form: "))
    };
    let answers = text
        .split("\n\n")
        .filter(|answer| !answer.trim().is_empty());
    let mut answers = answers.map(str::to_owned).peekable();
    let mut result = Vec::new();
    for expr in exprs {
        let Some(answer) = answers.next_if(|answer| form(answer).as_deref() == Some(expr)) else {
            let failed = errors.contains(&format!("next elapse for '{expr}'"));
            let answer = if failed { "failed" } else { "refused" };
            result.push(answer.to_owned());
            continue;
        };
        let next = field(&answer, "(in UTC): ").or_else(|| field(&answer, "Next elapse: "));
        let next = next.unwrap();
        result.push(match next.trim() {
            "never" => "never".to_owned(),
            time => {
                let mut words = time.split(' ').skip(1);
                let (date, time) = (words.next().unwrap(), words.next().unwrap());
                let at = UnixMs::parse("next", &format!("{date}T{time}Z")).unwrap();
                (at.0 / 1000).to_string()
            }
        });
    }
    result
}

/// Cases from the field, with the answers of cronsim 2.8, systemd 252 and tzdata 2026f.
#[test]
fn known_answers() {
    let file = |name: &str| {
        let path = format!("{}/tests/oracles/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        rows.map(|row| row.split('\t').map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    for row in file("cron.tsv").into_iter().chain(file("oncalendar.tsv")) {
        let [expr, zone, after, next] = &row[..] else {
            panic!("{row:?}");
        };
        let after = UnixMs::parse("after", after).unwrap();
        let got = match Schedule::parse(expr, zone) {
            Err(_) => "refused".to_owned(),
            Ok(schedule) => match schedule.next_after(after) {
                Some(at) => at.to_string().replace(".000Z", "Z"),
                None => "never".to_owned(),
            },
        };
        assert_eq!(got, *next, "{row:?}");
    }
    for row in file("zones.tsv") {
        let [zone, at, offset] = &row[..] else {
            panic!("{row:?}");
        };
        let at = UnixMs::parse("at", at).unwrap();
        let minutes = Zone::named(zone).unwrap().offset_s(at) / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let minutes = minutes.abs();
        let got = format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        assert_eq!(got, *offset, "{row:?}");
    }
}

#[test]
fn calendar_events_agree_with_systemd() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: there is no systemd-analyze; see CONTRIBUTING.md");
        return;
    }
    let mut rng = StdRng::seed_from_u64(2);
    let mut by_call: BTreeMap<(&str, UnixMs), Vec<Case>> = BTreeMap::new();
    let total = cases(5_000);
    // A call has forty expressions.
    for _ in 0..total.div_ceil(40) {
        let Case { zone, after, .. } = random_case(&mut rng, calendar);
        for _ in 0..40 {
            let expr = calendar(&mut rng);
            // Other programs may take five words as cron, and so does Thrum.
            if !is_cron(&expr) && !expr.is_empty() {
                by_call
                    .entry((zone, after))
                    .or_default()
                    .push(Case { expr, zone, after });
            }
        }
    }
    let (mut cases, mut theirs) = (Vec::new(), Vec::new());
    for ((zone, after), group) in by_call {
        let exprs: Vec<&str> = group.iter().map(|case| case.expr.as_str()).collect();
        theirs.extend(systemd(zone, after, &exprs));
        cases.extend(group);
    }
    compare(&cases, &theirs);
}
