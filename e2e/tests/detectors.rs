//! How reliable the anomaly detectors are, on simulated series with known incidents.

use e2e::detectors::{judge, simulate};
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
        for (group, incidents) in [("traffic", 160), ("backups", 480), ("other", 24)] {
            let score = groups[group];
            println!("{seed} {group}: {score:?}");
            assert_eq!(score.incidents, incidents, "{group}");
            assert!(
                score.false_alarms_a_day() <= 0.03,
                "{seed} {group}: {score:?}"
            );
            let needed = if group == "other" { 0.75 } else { 0.95 };
            assert!(
                score.found as f64 >= needed * incidents as f64,
                "{seed} {group}: {score:?}"
            );
        }
        for name in ["seasonal", "holt-winters"] {
            let groups = judge(name, folder.path()).unwrap();
            for group in ["traffic", "backups"] {
                let score = groups[group];
                println!("{seed} {name} {group}: {score:?}");
                assert!(
                    score.false_alarms_a_day() <= 0.03,
                    "{name} {group}: {score:?}"
                );
                assert!(
                    score.found as f64 >= 0.95 * score.incidents as f64,
                    "{name} {group}: {score:?}"
                );
            }
        }
    }
}
