//! Faults of the disk (failed flushes, no space, power cuts, damage), and backups.
//!
//! `support/disk.c` simulates the faults. The tests compile it and preload it into the binary.

use crate::support::{Thrum, is_whole};
use rusqlite::Connection;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use thrum_store::sqlite;

const MONITORS: usize = 40;

/// A data directory, and the library that simulates its disk.
struct Disk {
    directory: TempDir,
    library: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/disk.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([library.as_os_str(), source.as_ref()])
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(compiled.unwrap().success());
        for name in ["data", "durable"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory, library }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// `thrum serve` on the simulated disk; `variables` choose its faults.
    fn command(&self, variables: &[(&str, &Path)]) -> Command {
        let mut command = Thrum::command(&self.data(), &[]);
        command
            .env("LD_PRELOAD", &self.library)
            .env("THRUM_DISK", self.data().join(sqlite::FILE))
            .envs(variables.iter().copied());
        command
    }

    fn serve(&self, variables: &[(&str, &Path)]) -> Thrum {
        Thrum::start_command(self.command(variables))
    }
}

/// Sends heartbeats, and counts the answered ones per monitor.
struct Load {
    answered: Vec<AtomicU64>,
    stop: AtomicBool,
}

impl Load {
    fn new() -> Self {
        Self {
            answered: (0..MONITORS).map(|_| AtomicU64::new(0)).collect(),
            stop: AtomicBool::new(false),
        }
    }

    /// Sends heartbeats from four threads while `act` runs.
    fn during<T>(&self, thrum: &Thrum, act: impl FnOnce() -> T) -> T {
        self.stop.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || {
                    let mut i = worker;
                    while !self.stop.load(Ordering::SeqCst) {
                        let monitor = i % MONITORS;
                        let beat = json!({"monitor": format!("host-{monitor}"), "period_s": 3_600});
                        if thrum.try_post("/v1/heartbeats", &beat).is_some() {
                            self.answered[monitor].fetch_add(1, Ordering::SeqCst);
                        }
                        i += 1;
                    }
                });
            }
            let done = act();
            self.stop.store(true, Ordering::SeqCst);
            done
        })
    }

    fn counts(&self) -> Vec<u64> {
        self.answered
            .iter()
            .map(|n| n.load(Ordering::SeqCst))
            .collect()
    }
}

/// Fails unless the server has counted at least `answered` heartbeats of each monitor.
fn has_all(thrum: &Thrum, answered: &[u64]) {
    for (i, answered) in answered.iter().enumerate().filter(|(_, n)| **n > 0) {
        let pings = &thrum.get(&format!("/v1/monitors/host-{i}"))["pings"];
        assert!(
            pings.as_u64() >= Some(*answered),
            "host-{i}: {answered} answered, {pings} stored"
        );
    }
}

/// Replaces `to` with a copy of `from`, without half-written copies (`.part`).
fn copy_all(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if !file.file_name().to_string_lossy().ends_with(".part") {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// Moves the WAL into the database file, while no server runs.
fn checkpoint(database: &Path) {
    let connection = Connection::open(database).unwrap();
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    connection.query_row(checkpoint, [], |_| Ok(())).unwrap();
}

#[test]
fn sqlite_has_the_fix_for_wal_corruption() {
    // SQLite up to 3.51.2 can corrupt a database in WAL mode.
    assert!(
        rusqlite::version_number() >= 3_051_003,
        "{}",
        rusqlite::version()
    );
}

#[test]
fn a_power_cut_loses_no_answered_heartbeat() {
    let disk = Disk::new();
    let load = Load::new();
    for _ in 0..3 {
        let durable = disk.path("durable");
        // Everything in the data directory at the start is durable.
        copy_all(&disk.data(), &durable);
        let mut thrum = disk.serve(&[("THRUM_DISK_DURABLE", &durable)]);
        load.during(&thrum, || {
            std::thread::sleep(Duration::from_millis(1_500));
            // The durable copy has everything answered so far, whatever is in progress.
            thrum.signal("KILL");
        });
        thrum.wait();
        let answered = load.counts();
        // After the power cut, only flushed data is left.
        copy_all(&durable, &disk.data());
        let thrum = disk.serve(&[]);
        has_all(&thrum, &answered);
        drop(thrum);
        is_whole(&disk.data().join(sqlite::FILE));
        assert!(answered.iter().sum::<u64>() > 100, "{answered:?}");
    }
}

#[test]
fn a_full_disk_refuses_writes_clearly_and_loses_nothing() {
    let disk = Disk::new();
    let load = Load::new();
    let limit = Path::new("300000");
    let space = disk.path("space");
    let thrum = disk.serve(&[("THRUM_DISK_BYTES", limit), ("THRUM_DISK_SPACE", &space)]);
    let refused = load.during(&thrum, || {
        let begun = Instant::now();
        loop {
            let beat = json!({"monitor": "another", "period_s": 3_600});
            match thrum.reply("POST", "/v1/heartbeats", &beat) {
                Some((503, reply)) => return reply,
                _ => assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "the disk did not fill up"
                ),
            }
        }
    });
    assert!(refused.contains("try again"), "{refused}");
    // Once there is space, writes succeed without a restart.
    fs::write(&space, "").unwrap();
    let before = load.counts();
    load.during(&thrum, || std::thread::sleep(Duration::from_millis(500)));
    assert!(load.counts() > before, "it must accept writes again");
    drop(thrum);
    let thrum = disk.serve(&[]);
    has_all(&thrum, &load.counts());
    load.during(&thrum, || std::thread::sleep(Duration::from_millis(300)));
    has_all(&thrum, &load.counts());
    drop(thrum);
    is_whole(&disk.data().join(sqlite::FILE));
}

#[test]
fn after_a_failed_flush_all_writes_are_refused() {
    let disk = Disk::new();
    let load = Load::new();
    let fails = disk.path("fails");
    let thrum = disk.serve(&[("THRUM_DISK_FAILS", &fails)]);
    load.during(&thrum, || {
        std::thread::sleep(Duration::from_millis(500));
        fs::write(&fails, "").unwrap();
        std::thread::sleep(Duration::from_millis(500));
    });
    let answered = load.counts();
    // Later flushes succeed, but the system may have dropped the writes of the failed one.
    fs::remove_file(&fails).unwrap();
    let beat = json!({"monitor": "host-0", "period_s": 3_600});
    let reply = thrum.reply("POST", "/v1/heartbeats", &beat);
    assert!(matches!(reply, Some((503, _))), "{reply:?}");
    drop(thrum);
    let thrum = disk.serve(&[]);
    has_all(&thrum, &answered);
    load.during(&thrum, || std::thread::sleep(Duration::from_millis(300)));
    has_all(&thrum, &load.counts());
    drop(thrum);
    is_whole(&disk.data().join(sqlite::FILE));
}

/// The stderr of a server that must refuse to start.
fn refusal(mut command: Command) -> String {
    let output = command
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_foreign_database_is_refused_and_left_unchanged() {
    let disk = Disk::new();
    let file = disk.data().join(sqlite::FILE);
    drop(disk.serve(&[]));
    checkpoint(&file);
    let said = refusal(disk.command(&[("THRUM_DISK_READ_ONLY", Path::new("1"))]));
    assert!(said.contains("Read-only file system"), "{said}");
    // A database of another program, a file that is no database, and one of a newer Thrum.
    let other = disk.path("other.db");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    let newer = disk.path("newer.db");
    fs::copy(&file, &newer).unwrap();
    let connection = Connection::open(&newer).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    fs::write(
        disk.path("text.db"),
        "no database, but a text that is long enough to be taken for a header",
    )
    .unwrap();
    for (name, words) in [
        (
            "other.db",
            "not a database that this version of Thrum can read",
        ),
        (
            "text.db",
            "not a database that this version of Thrum can read",
        ),
        ("newer.db", "written by a newer Thrum"),
    ] {
        for beside in ["thrum.db-wal", "thrum.db-shm"] {
            let _ = fs::remove_file(disk.data().join(beside));
        }
        let bytes = fs::read(disk.path(name)).unwrap();
        fs::write(&file, &bytes).unwrap();
        let said = refusal(disk.command(&[]));
        assert!(
            said.contains(words) && said.contains("thrum.db"),
            "{name}: {said}"
        );
        assert_eq!(fs::read(&file).unwrap(), bytes, "{name} must be unchanged");
    }
}

fn backup(disk: &Disk, to: &Path) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_thrum"))
        .arg("backup")
        .arg(to)
        .arg("--data")
        .arg(disk.data())
        .output()
        .unwrap()
}

#[test]
fn a_backup_under_load_is_complete_and_restorable() {
    let disk = Disk::new();
    let load = Load::new();
    let copy = disk.path("copy.db");
    let thrum = disk.serve(&[]);
    let before = load.during(&thrum, || {
        std::thread::sleep(Duration::from_millis(1_500));
        let before = load.counts();
        let output = backup(&disk, &copy);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("copy.db"), "{said}");
        before
    });
    is_whole(&copy);
    // An existing file is not overwritten.
    let again = backup(&disk, &copy);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success(), "{said}");
    assert!(said.contains("copy.db already exists"), "{said}");
    drop(thrum);
    // Damage in the middle of the file.
    let file = disk.data().join(sqlite::FILE);
    checkpoint(&file);
    let mut bytes = fs::read(&file).unwrap();
    let pages = bytes.len() / 4_096;
    for page in pages / 2..pages {
        bytes[page * 4_096..page * 4_096 + 2_048].fill(0xa5);
    }
    fs::write(&file, &bytes).unwrap();
    let log = disk.path("log");
    let mut command = disk.command(&[]);
    command
        .stderr(fs::File::create(&log).unwrap())
        .args(["--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !fs::read_to_string(&log)
        .unwrap()
        .contains("damaged; restore a backup")
    {
        let patient = begun.elapsed() < Duration::from_secs(20);
        assert!(patient, "{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    // Restore as docs/one-machine.md says: the copy in an empty directory.
    fs::remove_dir_all(disk.data()).unwrap();
    fs::create_dir(disk.data()).unwrap();
    fs::copy(&copy, &file).unwrap();
    let thrum = disk.serve(&[]);
    has_all(&thrum, &before);
    assert!(before.iter().sum::<u64>() > 50, "{before:?}");
    load.during(&thrum, || std::thread::sleep(Duration::from_millis(300)));
}
