//! How reliable the anomaly detectors are, on simulated series with known incidents.

use e2e::detectors::{Score, judge, simulate};
use std::path::Path;

/// 160 incidents in hourly traffic, 480 halved backups, and series that have no incidents but look
/// as if they had. Nothing is tuned.
#[test]
fn auto_finds_incidents_and_raises_few_false_alarms() {
    let python = std::env::var_os("THRUM_TEST_PYTHON").filter(|path| !path.is_empty());
    let Some(python) = python else {
        eprintln!("\n*** SKIPPED: THRUM_TEST_PYTHON must be a Python with numpy ***\n");
        return;
    };
    for seed in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        simulate(Path::new(&python), folder.path(), seed).unwrap();
        let groups = judge("auto", folder.path()).unwrap();
        for (group, incidents) in [("traffic", 160), ("backups", 480)] {
            let score = groups[group];
            assert_eq!(score.incidents, incidents, "{group}");
            check("auto", seed, group, score, 0.95, 0.03);
        }
        // Heavy tails, changes of the clock, random walks, counts that are mostly 0 …
        check("auto", seed, "other", groups["other"], 0.75, 0.05);
        for name in ["seasonal", "holt-winters"] {
            let groups = judge(name, folder.path()).unwrap();
            for group in ["traffic", "backups"] {
                check(name, seed, group, groups[group], 0.9, 0.03);
            }
        }
    }
}

fn check(name: &str, seed: u64, group: &str, score: Score, least: f64, most: f64) {
    println!("{name} {group}, seed {seed}: {score:?}");
    let found = score.found as f64 / score.incidents as f64;
    let false_alarms = score.false_alarms_a_day();
    assert!(found >= least, "{name} {group}, seed {seed}: found {found}");
    assert!(
        false_alarms <= most,
        "{name} {group}, seed {seed}: {false_alarms} false alarms a day"
    );
}
