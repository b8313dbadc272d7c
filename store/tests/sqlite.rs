//! What the embedded table guarantees beyond the port: group commit, changes, TTL, and one process
//! at a time.
#![cfg(feature = "sqlite")]

use futures::future::join_all;
use serde_json::json;
use thrum_store::key::Key;
use thrum_store::sqlite::{Durability, OpenError, Options, SqliteTable};
use thrum_store::table::{Item, Read, Table, add, attr, delete, put, set, update};

fn durable() -> Options {
    Options {
        durability: Durability::Full,
        ..Options::default()
    }
}

fn item(pk: &str, sk: &str, kind: &str) -> Item {
    let item = json!({"pk": {"S": pk}, "sk": {"S": sk}, "kind": {"S": kind}});
    serde_json::from_value(item).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_commit_answers_many_writers_but_none_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let table = SqliteTable::open(directory.path(), durable()).unwrap();
    let before = table.commits();
    table.write(put(item("a", "alone", "test"))).await.unwrap();
    assert_eq!(
        table.commits(),
        before + 1,
        "a single write has its own commit"
    );
    table
        .get(Key::new("a", "alone"), Read::Consistent)
        .await
        .unwrap();
    assert_eq!(table.commits(), before + 1, "a read has none");
    let writers = (0..200).map(|i| {
        let table = table.clone();
        tokio::spawn(async move {
            let before = table.commits();
            let written = table
                .write(put(item("a", &format!("{i:03}"), "test")))
                .await;
            assert!(written.is_ok());
            // Counted after the commit, but before the answer.
            assert!(
                table.commits() > before,
                "{i} was answered without a commit"
            );
        })
    });
    for written in join_all(writers).await {
        written.unwrap();
    }
    let commits = table.commits() - before - 1;
    assert!(
        (1..200).contains(&commits),
        "{commits} commits for 200 writers"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_writes_are_serialized() {
    let table = SqliteTable::temporary(Options::default()).unwrap();
    let key = || Key::new("a", "counter");
    let takers = (0..100).map(|_| {
        let table = table.clone();
        let below = attr("n").missing().or(attr("n").below(40));
        tokio::spawn(async move {
            table
                .write(update(key(), add("n", 1)).when(below))
                .await
                .is_ok()
        })
    });
    let taken = join_all(takers)
        .await
        .into_iter()
        .filter(|taken| *taken.as_ref().unwrap());
    assert_eq!(taken.count(), 40);
}

#[test]
fn only_one_process_can_open_the_data() {
    let directory = tempfile::tempdir().unwrap();
    let table = SqliteTable::open(directory.path(), durable()).unwrap();
    let second = SqliteTable::open(directory.path(), durable());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    drop(table);
    SqliteTable::open(directory.path(), durable()).unwrap();
}

#[test]
fn only_the_owner_can_read_the_data() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let table = SqliteTable::open(&data, durable()).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in ["thrum.db", "thrum.db-wal", "thrum.db-shm"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    drop(table);
}

#[tokio::test]
async fn the_feed_has_changes_for_evaluate_until_they_are_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let table = SqliteTable::open(directory.path(), durable()).unwrap();
    let key = Key::new("P#1", "alert");
    table
        .write(put(item("M#1", "LEASE", "lease")))
        .await
        .unwrap();
    table
        .write(update(Key::new("M#1", "LEASE"), add("pings", 1)))
        .await
        .unwrap();
    let writes = vec![
        put(item("P#1", "alert", "alert")),
        put(item("T#1", "x", "timers")),
    ];
    table.transact(writes, uuid::Uuid::nil()).await.unwrap();
    // Evaluate is called for changes of a probe, but not of an alert.
    table
        .write(update(key.clone(), set("planned", true)))
        .await
        .unwrap();
    table
        .write(put(item("PROBE", "SENT", "probe")))
        .await
        .unwrap();
    table
        .write(put(item("PROBE", "SENT", "probe")))
        .await
        .unwrap();
    table.write(delete(key)).await.unwrap();
    let mut feed = table.feed();
    let changes = feed.next(100).await.unwrap();
    let names: Vec<_> = changes
        .iter()
        .map(|change| (change.event_name(), &*change.key.pk))
        .collect();
    assert_eq!(
        names,
        [("INSERT", "P#1"), ("INSERT", "PROBE"), ("MODIFY", "PROBE")]
    );
    assert_eq!(
        feed.next(1).await.unwrap(),
        changes[..1],
        "the same change again"
    );
    feed.advance(changes[0].sequence);
    assert_eq!(feed.next(100).await.unwrap(), changes[1..]);
    // After a restart, a new feed starts with what was not deleted.
    feed.delete_through(changes[1].sequence).await.unwrap();
    drop((feed, table));
    let table = SqliteTable::open(directory.path(), durable()).unwrap();
    assert_eq!(table.feed().next(100).await.unwrap(), changes[2..]);
    // Sequence numbers continue.
    table
        .write(put(item("PROBE", "SENT", "probe")))
        .await
        .unwrap();
    let after = table.feed().next(100).await.unwrap();
    assert!(after[1].sequence > changes[2].sequence);
}

#[tokio::test]
async fn expired_items_are_removed_and_a_state_is_reported() {
    let table = SqliteTable::temporary(Options::default()).unwrap();
    let expiring = |sk: &str, kind: &str, expires_at: i64| {
        let mut item = item("M#1", sk, kind);
        item.insert(
            "expires_at".into(),
            serde_json::from_value(json!({"N": expires_at.to_string()})).unwrap(),
        );
        put(item)
    };
    for i in 0..500 {
        table
            .write(expiring(&format!("PING#{i:03}"), "ping", 1_000))
            .await
            .unwrap();
    }
    table
        .write(expiring("LEASE", "lease", 7_200))
        .await
        .unwrap();
    table
        .write(put(item("M#1", "OWNER", "owner")))
        .await
        .unwrap();
    assert_eq!(table.remove_expired(900).await.unwrap(), 0, "never early");
    assert_eq!(table.remove_expired(7_100).await.unwrap(), 500);
    // Postponed by an update.
    let later = update(Key::new("M#1", "LEASE"), set("expires_at", 8_000));
    table.write(later).await.unwrap();
    assert_eq!(table.remove_expired(7_300).await.unwrap(), 0);
    assert_eq!(table.remove_expired(9_000).await.unwrap(), 1);
    assert_eq!(table.items().await.unwrap().len(), 1);
    let changes = table.feed().next(100).await.unwrap();
    assert_eq!(changes.len(), 1, "evaluate is not called for removed pings");
    let state = &changes[0];
    assert_eq!((state.event_name(), state.expired), ("REMOVE", true));
    assert_eq!(&*state.key.sk, "LEASE");
}
