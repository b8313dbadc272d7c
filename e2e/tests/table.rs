//! The table port: the same cases and random operations on the embedded table, and through the AWS
//! SDK on two third-party DynamoDB emulators. All must give the same answers.
//!
//! `THRUM_TEST_DYNOXIDE` is the path of dynoxide's binary, `THRUM_TEST_PYTHON` a Python with
//! `moto[server]`; tests without their emulator report that they are skipped.
//! `THRUM_TEST_OPERATIONS` is the number of random operations to compare.

use crate::support::Moto;
use e2e::dynoxide::Dynoxide;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use thrum_schema::UnixMs;
use thrum_schema::world::{ManualWorld, SystemWorld, World};
use thrum_store::dynamodb::{DynamoTable, retrying};
use thrum_store::key::Key;
use thrum_store::sqlite::{Options, SqliteTable};
use thrum_store::table::{
    Condition, Item, MAX_ITEM_BYTES, Meter, Number, Query, Read, Table, TableError, Update, Value,
    Write, add, attr, check, create, delete, exists, missing, put, remove, set, set_if_missing,
    set_sum, strings, take_from, update,
};
use uuid::Uuid;

/// The default number of random operations to compare.
const OPERATIONS: u32 = 3_000;

/// A table under test, with a meter of its calls.
struct Subject {
    table: Arc<dyn Table>,
    meter: Meter,
    /// moto deviates from DynamoDB in some cases, which are skipped.
    is_moto: bool,
}

fn embedded() -> Subject {
    let meter = Meter::default();
    let options = Options {
        meter: Some(meter.clone()),
        ..Options::default()
    };
    Subject {
        table: Arc::new(SqliteTable::temporary(options).expect("a table")),
        meter,
        is_moto: false,
    }
}

async fn on_dynoxide(emulator: &Dynoxide, name: &str) -> Subject {
    let meter = Meter::default();
    let table = emulator.table(name).await.metered(meter.clone());
    Subject {
        table: Arc::new(table),
        meter,
        is_moto: false,
    }
}

async fn on_moto(moto: &Moto, name: &str) -> Subject {
    let config = retrying((&moto.config).into()).build();
    let table = DynamoTable::new(aws_sdk_dynamodb::Client::from_conf(config), name);
    table.create().await.expect("a table");
    Subject {
        table: Arc::new(table),
        meter: Meter::default(),
        is_moto: true,
    }
}

macro_rules! on_each {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test] async fn $name() { super::$name(super::embedded()).await; })*
        }

        #[tokio::test]
        async fn on_dynoxide_too() {
            let Some(emulator) = Dynoxide::start().await else { return };
            $(
                eprintln!("{}", stringify!($name));
                $name(on_dynoxide(&emulator, stringify!($name)).await).await;
            )*
        }

        #[tokio::test]
        async fn on_moto_too() {
            let Some(moto) = Moto::start() else { return };
            $(
                eprintln!("{}", stringify!($name));
                $name(on_moto(&moto, stringify!($name)).await).await;
            )*
        }
    };
}

on_each!(
    conditions_match_dynamodb,
    updates_match_dynamodb,
    ranges_are_in_byte_order_and_paged,
    a_transaction_is_all_or_nothing_and_says_which_write_failed,
    alternatives_are_tried_in_order,
    batches_work_and_oversized_items_are_refused,
    calls_cost_what_dynamodb_charges,
);

/// A new token for each transaction: an account remembers the tokens of all its tables.
fn token() -> Uuid {
    SystemWorld.uuid_v4()
}

fn item(json: Json) -> Item {
    serde_json::from_value(json).expect("an item")
}

fn key(sk: &str) -> Key {
    Key::new("p", sk)
}

fn is_condition<T: std::fmt::Debug>(result: Result<T, TableError>) -> Option<Item> {
    match result {
        Err(TableError::Condition { found, .. }) => found.map(|found| *found),
        other => panic!("expected a failed condition: {other:?}"),
    }
}

async fn conditions_match_dynamodb(subject: Subject) {
    let table = &subject.table;
    let stored = item(json!({
        "pk": {"S": "p"}, "sk": {"S": "a"}, "n": {"N": "10"}, "s": {"S": "b"}, "yes": {"BOOL": true},
        "set": {"SS": ["x", "y"]}, "bytes": {"B": "AQI="},
    }));
    table.write(put(stored.clone())).await.expect("put");
    let holds = [
        exists(),
        attr("n").exists(),
        attr("none").missing(),
        attr("n").eq(10),
        attr("n").at_most(10),
        attr("n").below(11),
        attr("n").above(9),
        attr("n").at_least(10),
        attr("n").eq(Value::N("10.0".into())),
        attr("s").eq("b"),
        attr("s").above("B"),
        attr("s").one_of(["a", "b"]),
        attr("yes").eq(true),
        attr("set").eq(strings(["y", "x"])),
        attr("bytes").eq(Value::B(vec![1, 2])),
        // A missing attribute, or one of another type, satisfies no comparison.
        attr("none").eq(1).negated(),
        attr("none").below(1).negated(),
        attr("n").eq("10").negated(),
        attr("none").one_of([1]).negated(),
        attr("n").eq(1).or(attr("s").eq("b")),
        attr("n").eq(10).and(attr("s").eq("a").negated()),
    ];
    // moto rejects such a comparison.
    let of_another_type = (!subject.is_moto).then(|| attr("s").below(1).negated());
    for condition in holds.into_iter().chain(of_another_type) {
        let same = put(stored.clone()).when(condition.clone());
        let written = table.write(same).await;
        assert!(written.is_ok(), "{condition:?}: {written:?}");
        let negated = put(stored.clone()).when(condition.clone().negated());
        let found = is_condition(table.write(negated).await);
        assert_eq!(
            found.map(canonical),
            Some(canonical(stored.clone())),
            "{condition:?}"
        );
    }
    // Conditions on an item that does not exist.
    let nothing = Key::new("p", "nothing");
    for condition in [
        exists(),
        attr("n").eq(1),
        attr("n").eq(1).negated().negated(),
    ] {
        let refused = delete(nothing.clone()).when(condition);
        assert_eq!(is_condition(table.write(refused).await), None);
    }
    for condition in [missing(), attr("n").eq(1).negated(), Condition::Always] {
        let done = table.write(delete(nothing.clone()).when(condition)).await;
        assert_eq!(done, Ok(None));
    }
}

async fn updates_match_dynamodb(subject: Subject) {
    let table = &subject.table;
    let mut expected = json!({"pk": {"S": "p"}, "sk": {"S": "u"}});
    let steps: [(Update, Json); 9] = [
        // An update creates a missing item.
        (add("n", 2), json!({"n": {"N": "2"}})),
        (
            add("n", 3).set("s", "t"),
            json!({"n": {"N": "5"}, "s": {"S": "t"}}),
        ),
        // Operands are values from before the update.
        (
            set_sum("m", "n", 1).add("n", 10),
            json!({"m": {"N": "6"}, "n": {"N": "15"}}),
        ),
        (
            set_if_missing("s", "no").set_if_missing("new", true),
            json!({"new": {"BOOL": true}}),
        ),
        (
            add("set", strings(["b", "a"])),
            json!({"set": {"SS": ["a", "b"]}}),
        ),
        (
            add("set", strings(["b", "c"])),
            json!({"set": {"SS": ["a", "b", "c"]}}),
        ),
        (
            take_from("set", strings(["a", "c", "z"])),
            json!({"set": {"SS": ["b"]}}),
        ),
        // An empty set is removed.
        (
            take_from("set", strings(["b"])).remove("s"),
            json!({"set": null, "s": null}),
        ),
        (
            remove("none").take_from("nothing", strings(["x"])),
            json!({}),
        ),
    ];
    for (change, differs) in steps {
        let after = table.write(update(key("u"), change.clone())).await;
        for (name, value) in differs.as_object().expect("an object") {
            match value {
                Json::Null => drop(expected.as_object_mut().expect("an object").remove(name)),
                value => expected[name] = value.clone(),
            }
        }
        let after = after.expect("updated").expect("an image");
        assert_eq!(
            canonical(after),
            canonical(item(expected.clone())),
            "{change:?}"
        );
    }
    let stored = table.get(key("u"), Read::Consistent).await.expect("read");
    assert_eq!(canonical(stored.expect("there")), canonical(item(expected)));
    // A sum of a missing attribute, or of one that is not a number, is refused.
    for wrong in [set_sum("x", "none", 1), add("new", 1)] {
        let refused = table.write(update(key("u"), wrong)).await;
        assert!(
            matches!(refused, Err(TableError::Invalid(_))),
            "{refused:?}"
        );
    }
    // Numbers are exact.
    let big = Value::N("12345678901234567890123456789012345678".into());
    let grown = table.write(update(key("big"), set("n", big))).await;
    grown.expect("38 digits fit");
    if !subject.is_moto {
        let more = table.write(update(key("big"), add("n", 1))).await;
        let more = more.expect("updated").expect("an image");
        let digits = Value::N("12345678901234567890123456789012345679".into());
        assert_eq!(more.get("n"), Some(&digits));
    }
}

async fn ranges_are_in_byte_order_and_paged(subject: Subject) {
    let table = &subject.table;
    let sorted = [
        "#", "0", "00", "1", "A", "CH#1", "CH#2", "CH$", "a", "é", "\u{ffff}", "😀",
    ];
    for sk in sorted.iter().rev() {
        table.write(put(key(sk).attributes())).await.expect("put");
    }
    let other = Key::new("q", "0").attributes();
    table.write(put(other)).await.expect("put");
    let keys = async |query: Query| -> Vec<String> {
        let mut found = Vec::new();
        let mut next = Some(query);
        while let Some(query) = next.take() {
            let page = table.query(query.clone()).await.expect("a page");
            assert!(query.limit.is_none_or(|limit| page.items.len() <= limit));
            found.extend(page.items.iter().filter_map(Key::of).map(|key| key.sk));
            next = page.next.map(|after| Query {
                after: Some(after),
                ..query
            });
        }
        found
    };
    let all = || Query::of("p");
    assert_eq!(keys(all()).await, sorted);
    assert_eq!(keys(all().eventual().limit(5)).await, sorted);
    let mut reversed = sorted;
    reversed.reverse();
    assert_eq!(keys(all().newest_first()).await, reversed);
    assert_eq!(keys(all().newest_first().limit(1)).await, reversed);
    assert_eq!(keys(all().prefix("CH#")).await, ["CH#1", "CH#2"]);
    assert_eq!(keys(all().prefix("CH#").limit(1)).await, ["CH#1", "CH#2"]);
    assert_eq!(
        keys(all().prefix("CH#").newest_first().limit(1)).await,
        ["CH#2", "CH#1"]
    );
    assert_eq!(keys(all().prefix("nothing")).await, [""; 0]);
    assert_eq!(keys(all().between("00", "A")).await, ["00", "1", "A"]);
    assert_eq!(
        keys(all().between("00", "A").newest_first().limit(2)).await,
        ["A", "1", "00"]
    );
    assert_eq!(keys(all().between("b", "z")).await, [""; 0]);
    assert_eq!(
        keys(all().between("z", "b")).await,
        [""; 0],
        "a reversed range is empty"
    );
    assert_eq!(keys(Query::of("nobody's")).await, [""; 0]);
    // A page holds at most 1 MB.
    for i in 0..6 {
        let mut large = Key::new("large", i.to_string()).attributes();
        large.insert("text".into(), Value::S("x".repeat(300_000)));
        table.write(put(large)).await.expect("put");
    }
    let page = table.query(Query::of("large")).await.expect("a page");
    assert!((3..6).contains(&page.items.len()), "{}", page.items.len());
    assert_eq!(
        keys(Query::of("large")).await,
        ["0", "1", "2", "3", "4", "5"]
    );
}

async fn a_transaction_is_all_or_nothing_and_says_which_write_failed(subject: Subject) {
    let table = &subject.table;
    let named = |sk: &str| key(sk).attributes();
    table.write(put(named("there"))).await.expect("put");
    let four = |last: Write| {
        vec![
            create(named("new")),
            update(key("counter"), add("n", 1)),
            check(key("there"), exists()),
            last,
        ]
    };
    let failed = table
        .transact(four(delete(key("gone")).when(exists())), token())
        .await;
    let Err(TableError::Condition { at: 3, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(table.get(key("new"), Read::Consistent).await, Ok(None));
    assert_eq!(table.get(key("counter"), Read::Consistent).await, Ok(None));
    let done = table.transact(four(delete(key("gone"))), token()).await;
    assert_eq!(done, Ok(()));
    let counter = table
        .get(key("counter"), Read::Consistent)
        .await
        .expect("read");
    assert_eq!(
        counter.expect("there").get("n"),
        Some(&Value::N("1".into()))
    );
    // A transaction can't write an item twice.
    let twice = vec![put(named("twice")), update(key("twice"), add("n", 1))];
    let refused = table.transact(twice, token()).await;
    assert!(
        matches!(refused, Err(TableError::Invalid(_))),
        "{refused:?}"
    );
    assert_eq!(table.get(key("twice"), Read::Consistent).await, Ok(None));
    // A transaction has at most 100 writes.
    let many = |n: usize| (0..n).map(|i| put(named(&format!("many-{i}")))).collect();
    assert_eq!(table.transact(many(100), token()).await, Ok(()));
    let refused = table.transact(many(101), token()).await;
    assert!(
        matches!(refused, Err(TableError::Invalid(_))),
        "{refused:?}"
    );
}

async fn alternatives_are_tried_in_order(subject: Subject) {
    let table = &subject.table;
    // A rate window: count in the current one, or start another.
    let counted = |now: i64| {
        let over = attr("since").missing().or(attr("since").at_most(now - 10));
        update(key("window"), add("n", 1))
            .when(attr("since").above(now - 10))
            .or_when(over, set("n", 1).set("since", now))
    };
    for (now, n) in [(100, 1), (101, 2), (109, 3), (110, 1), (115, 2)] {
        let after = table
            .write(counted(now))
            .await
            .expect("counted")
            .expect("an image");
        assert_eq!(after.get("n"), Some(&Value::N(n.to_string())), "at {now}");
    }
    let none = update(key("window"), add("n", 1))
        .when(attr("n").above(9))
        .or_when(attr("n").below(0), remove("n"));
    let found = is_condition(table.write(none).await).expect("the item");
    assert_eq!(found.get("n"), Some(&Value::N("2".into())));
}

async fn batches_work_and_oversized_items_are_refused(subject: Subject) {
    let table = &subject.table;
    let keys: Vec<Key> = (0..25).map(|i| key(&format!("b{i}"))).collect();
    let writes = keys.iter().map(|key| put(key.attributes())).collect();
    assert_eq!(table.write_many(writes).await, Ok(Vec::new()));
    let batch = table
        .get_many(keys.clone(), Read::Eventual)
        .await
        .expect("a batch");
    assert_eq!((batch.items.len(), batch.unprocessed.len()), (25, 0));
    let writes = keys.iter().take(20).cloned().map(delete).collect();
    assert_eq!(table.write_many(writes).await, Ok(Vec::new()));
    let batch = table
        .get_many(keys, Read::Consistent)
        .await
        .expect("a batch");
    assert_eq!(batch.items.len(), 5);
    // An item has at most 400 kB, including attribute names and its key.
    let sized = |bytes: usize| {
        let mut item = key("sized").attributes();
        let rest = bytes - "pkpsksizedtext".len();
        item.insert("text".into(), Value::S("x".repeat(rest)));
        item
    };
    if !subject.is_moto {
        table
            .write(put(sized(MAX_ITEM_BYTES)))
            .await
            .expect("it fits");
    }
    let refused = table.write(put(sized(MAX_ITEM_BYTES + 1))).await;
    assert!(
        matches!(refused, Err(TableError::Invalid(_))),
        "{refused:?}"
    );
    let refused = table.write(put(item(json!({"pk": {"S": "p"}})))).await;
    assert!(
        matches!(refused, Err(TableError::Invalid(_))),
        "{refused:?}"
    );
}

async fn calls_cost_what_dynamodb_charges(subject: Subject) {
    if subject.is_moto {
        return;
    }
    let (table, meter) = (&subject.table, &subject.meter);
    let sized = |sk: &str, bytes: usize| {
        let mut item = key(sk).attributes();
        item.insert("text".into(), Value::S("x".repeat(bytes)));
        item.insert("n".into(), Value::N("-1234567".into()));
        item
    };
    let mut costs: Vec<(&str, f64, f64)> = Vec::new();
    let mut took = |what| {
        let used = meter.take();
        costs.push((what, used.read_units, used.write_units));
    };
    table.write(put(sized("small", 10))).await.expect("put");
    took("a small put");
    table.write(put(sized("large", 5_000))).await.expect("put");
    took("a put of 5 kB");
    table.write(put(sized("large", 10))).await.expect("put");
    took("a small put in place of 5 kB");
    table.write(put(sized("large", 9_000))).await.expect("put");
    took("a put of 9 kB");
    table
        .write(update(key("large"), add("n", 1)))
        .await
        .expect("updated");
    took("an update of 9 kB");
    table
        .get(key("large"), Read::Consistent)
        .await
        .expect("read");
    took("a consistent read of 9 kB");
    table.get(key("large"), Read::Eventual).await.expect("read");
    took("an eventual read of 9 kB");
    table
        .get(key("nothing"), Read::Consistent)
        .await
        .expect("read");
    took("a read of nothing");
    table
        .get_many(
            vec![key("small"), key("large"), key("nothing")],
            Read::Eventual,
        )
        .await
        .expect("read");
    took("a batch of three");
    table.query(Query::of("p")).await.expect("read");
    took("a query of 9 kB");
    table.query(Query::of("nobody")).await.expect("read");
    took("a query of nothing");
    table
        .query(Query::of("nobody").eventual())
        .await
        .expect("read");
    took("an eventual query of nothing");
    let writes = vec![
        put(sized("t", 10)),
        update(key("large"), add("n", 1)),
        check(key("small"), exists()),
    ];
    table.transact(writes, token()).await.expect("done");
    took("a transaction of a small put, an update of 9 kB and a check");
    table
        .write_many(vec![put(sized("b", 10)), delete(key("large"))])
        .await
        .expect("done");
    took("a batch of a small put and a delete of 9 kB");
    table.write(delete(key("nothing"))).await.expect("done");
    took("a delete of nothing");
    let expected = [
        ("a small put", 0.0, 1.0),
        ("a put of 5 kB", 0.0, 5.0),
        ("a small put in place of 5 kB", 0.0, 5.0),
        ("a put of 9 kB", 0.0, 9.0),
        ("an update of 9 kB", 0.0, 9.0),
        ("a consistent read of 9 kB", 3.0, 0.0),
        ("an eventual read of 9 kB", 1.5, 0.0),
        ("a read of nothing", 1.0, 0.0),
        ("a batch of three", 2.5, 0.0),
        ("a query of 9 kB", 3.0, 0.0),
        ("a query of nothing", 1.0, 0.0),
        ("an eventual query of nothing", 0.5, 0.0),
        (
            "a transaction of a small put, an update of 9 kB and a check",
            0.0,
            22.0,
        ),
        ("a batch of a small put and a delete of 9 kB", 0.0, 10.0),
        ("a delete of nothing", 0.0, 1.0),
    ];
    assert_eq!(costs, expected);
}

/// An item with its numbers and sets in canonical form.
fn canonical(item: Item) -> Vec<(String, String)> {
    let mut attributes: Vec<(String, String)> = item
        .into_inner()
        .into_iter()
        .map(|(name, value)| (name, text(&value)))
        .collect();
    attributes.sort();
    attributes
}

fn text(value: &Value) -> String {
    match value {
        Value::N(number) => Number::parse(number).map_or_else(|| number.clone(), |n| n.to_string()),
        Value::Ss(members) => {
            let mut members = members.clone();
            members.sort();
            format!("{members:?}")
        }
        other => format!("{other:?}"),
    }
}

/// Random operations, as data.
struct Random(Arc<ManualWorld>);

impl Random {
    fn below(&self, n: usize) -> usize {
        usize::try_from(self.0.random() % (n as u128)).expect("it fits")
    }

    fn pick<T: Clone>(&self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn key(&self) -> Key {
        Key::new(
            self.pick(&["a", "b"]),
            self.pick(&["0", "00", "1", "A", "CH#1", "CH#2", "a", "é", "😀", "~"]),
        )
    }

    fn name(&self) -> &'static str {
        self.pick(&["n", "m", "s", "t", "set", "yes"])
    }

    fn number(&self) -> Value {
        let numbers = [
            "0",
            "1",
            "-1",
            "2",
            "10",
            "9",
            "1.5",
            "0.1",
            "-0.25",
            "1763700000000",
            "123456789012345678901",
        ];
        Value::N(self.pick(&numbers).to_owned())
    }

    fn texts(&self) -> Value {
        let n = 1 + self.below(3);
        let mut members: Vec<&str> = (0..n).map(|_| self.pick(&["x", "y", "z", "é"])).collect();
        members.sort_unstable();
        members.dedup();
        strings(members)
    }

    fn value(&self) -> Value {
        match self.below(8) {
            0..3 => self.number(),
            3..5 => Value::S(self.pick(&["a", "b", "B", "10", "é", "😀"]).to_owned()),
            5 => Value::Bool(self.below(2) == 0),
            6 => self.texts(),
            _ => Value::L(vec![self.number(), Value::S("in a list".to_owned())]),
        }
    }

    fn comparable(&self) -> Value {
        match self.below(3) {
            0 => Value::S(self.pick(&["a", "b", "B", "10"]).to_owned()),
            _ => self.number(),
        }
    }

    fn condition(&self, depth: usize) -> Condition {
        let deep = |this: &Self| this.condition(depth - 1);
        match self.below(if depth == 0 { 8 } else { 11 }) {
            0 => exists(),
            1 => missing(),
            2 => attr(self.name()).exists(),
            3 => attr(self.name()).missing(),
            4 => attr(self.name()).eq(self.value()),
            5 => attr(self.name()).below(self.comparable()),
            6 => attr(self.name()).at_least(self.comparable()),
            7 => attr(self.name()).one_of([self.comparable(), self.value()]),
            8 => deep(self).and(deep(self)),
            9 => deep(self).or(deep(self)),
            _ => deep(self).negated(),
        }
    }

    fn update(&self) -> Update {
        let mut update = Update::default();
        let mut names = vec!["n", "m", "s", "t", "set", "yes"];
        for _ in 0..1 + self.below(3) {
            // An update may change each attribute only once.
            let name = names.swap_remove(self.below(names.len()));
            update = match self.below(7) {
                0 | 1 => update.set(name, self.value()),
                2 => update.set_if_missing(name, self.value()),
                3 => update.set_sum(name, self.name(), self.number()),
                4 if name == "set" => update.add(name, self.texts()),
                4 => update.add(name, self.number()),
                5 if name == "set" => update.take_from(name, self.texts()),
                _ => update.remove(name),
            };
        }
        update
    }

    fn item(&self) -> Item {
        let mut item = self.key().attributes();
        for _ in 0..self.below(5) {
            item.insert(self.name().to_owned(), self.value());
        }
        item
    }

    fn write(&self, checks: bool) -> Write {
        let write = match self.below(if checks { 8 } else { 7 }) {
            0..2 => put(self.item()),
            2..6 => update(self.key(), self.update()),
            6 => delete(self.key()),
            _ => return check(self.key(), self.condition(1)),
        };
        match self.below(2) {
            0 => write,
            _ => write.when(self.condition(2)),
        }
    }

    fn query(&self) -> Query {
        let query = Query::of(self.pick(&["a", "b", "c"]));
        let mut query = match self.below(3) {
            0 => query,
            1 => query.prefix(self.pick(&["", "0", "CH#", "é", "z"])),
            _ => {
                let (a, b) = (self.key().sk, self.key().sk);
                query.between(a, b)
            }
        };
        if self.below(3) == 0 {
            query = query.limit(1 + self.below(4));
        }
        if self.below(3) == 0 {
            query = query.newest_first();
        }
        query
    }
}

/// The answer to an operation, in canonical form.
async fn answer(table: &dyn Table, operation: &Operation) -> String {
    let failure = |error: TableError| match error {
        TableError::Condition { at, found } => {
            format!("condition {at} {:?}", found.map(|found| canonical(*found)))
        }
        // Each table has its own error messages.
        TableError::Invalid(_) => "invalid".to_owned(),
        other => format!("{other:?}"),
    };
    let all = |items: Vec<Item>| items.into_iter().map(canonical).collect::<Vec<_>>();
    let answered = match operation.clone() {
        Operation::Get(key) => table
            .get(key, Read::Consistent)
            .await
            .map(|item| format!("{:?}", item.map(canonical))),
        Operation::Query(query) => table
            .query(query)
            .await
            .map(|page| format!("{:?}", all(page.items))),
        Operation::Write(write) => table
            .write(write)
            .await
            .map(|item| format!("{:?}", item.map(canonical))),
        Operation::Transact(writes) => table
            .transact(writes, token())
            .await
            .map(|()| "done".to_owned()),
    };
    answered.unwrap_or_else(failure)
}

#[derive(Debug, Clone)]
enum Operation {
    Get(Key),
    Query(Query),
    Write(Write),
    Transact(Vec<Write>),
}

/// Random operations find no difference between the embedded table and dynoxide.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_get_identical_answers() {
    let Some(emulator) = Dynoxide::start().await else {
        return;
    };
    let operations = std::env::var("THRUM_TEST_OPERATIONS").ok();
    let operations = operations.map_or(OPERATIONS, |n| n.parse().expect("a number"));
    let dynoxide = emulator.table("random").await;
    let sqlite = SqliteTable::in_memory(Options::default()).expect("a table");
    let random = Random(ManualWorld::new(UnixMs(0), 1));
    let (mut invalid, mut refused) = (0, 0);
    for n in 0..operations {
        let operation = match random.below(10) {
            0 => Operation::Get(random.key()),
            1..3 => Operation::Query(random.query()),
            3..8 => Operation::Write(random.write(false)),
            _ => {
                let writes = 1 + random.below(4);
                Operation::Transact((0..writes).map(|_| random.write(true)).collect())
            }
        };
        let actual = answer(&sqlite, &operation).await;
        let expected = answer(&dynoxide, &operation).await;
        assert_eq!(actual, expected, "operation {n}: {operation:?}");
        invalid += u32::from(actual == "invalid");
        refused += u32::from(actual.starts_with("condition"));
    }
    println!("{operations} operations, of which {invalid} were invalid and {refused} refused");
    assert!(
        refused > operations / 10,
        "too few conditions fail: {refused}"
    );
    assert!(
        invalid < operations / 4,
        "too many operations are invalid: {invalid}"
    );
}
