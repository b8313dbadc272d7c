//! How items and changes are stored: a version byte, then postcard. Keys have their own columns and
//! are left out of bodies.

use crate::key::Key;
use crate::stream::Change;
use crate::table::{Item, Result, TableError, Value};
use serde::{Deserialize, Serialize};

/// The version of the encoding.
const VERSION: u8 = 1;

/// The stored form of a value. Integers are compact; all other numbers keep their digits.
#[derive(Serialize, Deserialize)]
enum Stored<'a> {
    Text(&'a str),
    Whole(i64),
    Number(&'a str),
    Bool(bool),
    Bytes(&'a [u8]),
    Null,
    #[serde(borrow)]
    List(Vec<Stored<'a>>),
    Map(Vec<(&'a str, Stored<'a>)>),
    Texts(Vec<&'a str>),
    Numbers(Vec<&'a str>),
    Binaries(Vec<&'a [u8]>),
}

/// The body of an item.
pub fn encode(item: &Item) -> Vec<u8> {
    let members: Vec<(&str, Stored<'_>)> = item
        .iter()
        .filter(|(name, _)| *name != "pk" && *name != "sk")
        .map(|(name, value)| (name.as_str(), stored(value)))
        .collect();
    versioned(&members)
}

/// The item with this key and body.
///
/// # Errors
/// The body can't be decoded.
pub fn decode(key: Key, body: &[u8]) -> Result<Item> {
    let members: Vec<(&str, Stored<'_>)> = unversioned(body)?;
    let mut whole = Item::default();
    let item = whole.inner_mut();
    item.reserve(members.len() + 2);
    for (name, value) in members {
        item.insert(name.to_owned(), value.into());
    }
    item.insert("pk".to_owned(), Value::S(key.pk));
    item.insert("sk".to_owned(), Value::S(key.sk));
    Ok(whole)
}

/// The stored form of a change.
#[derive(Serialize, Deserialize)]
struct StoredChange<'a> {
    pk: &'a str,
    sk: &'a str,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
    expired: bool,
}

/// The record of a change, without its number.
pub fn encode_change(key: &Key, old: Option<&Item>, new: Option<&Item>, expired: bool) -> Vec<u8> {
    versioned(&StoredChange {
        pk: &key.pk,
        sk: &key.sk,
        old: old.map(encode),
        new: new.map(encode),
        expired,
    })
}

/// The change with this number and record.
///
/// # Errors
/// The record can't be decoded.
pub fn decode_change(sequence: i64, record: &[u8]) -> Result<Change> {
    let stored: StoredChange<'_> = unversioned(record)?;
    let key = Key::new(stored.pk, stored.sk);
    let image = |body: Option<Vec<u8>>| body.map(|body| decode(key.clone(), &body)).transpose();
    Ok(Change {
        sequence,
        old: image(stored.old)?,
        new: image(stored.new)?,
        expired: stored.expired,
        key,
    })
}

fn versioned(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(VERSION);
    postcard::to_extend(value, bytes).expect("postcard can encode every value")
}

fn unversioned<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    let unreadable =
        |why: String| TableError::Unavailable(format!("the database is damaged: {why}"));
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            postcard::from_bytes(rest).map_err(|error| unreadable(error.to_string()))
        }
        Some((version, _)) => Err(unreadable(format!("unknown item encoding {version}"))),
        None => Err(unreadable("an item is empty".to_owned())),
    }
}

fn stored(value: &Value) -> Stored<'_> {
    match value {
        Value::S(text) => Stored::Text(text),
        Value::N(number) => match number.parse::<i64>() {
            Ok(whole) if whole.to_string() == *number => Stored::Whole(whole),
            _ => Stored::Number(number),
        },
        Value::Bool(bool) => Stored::Bool(*bool),
        Value::B(bytes) => Stored::Bytes(bytes),
        Value::Null(_) => Stored::Null,
        Value::L(values) => Stored::List(values.iter().map(stored).collect()),
        Value::M(values) => {
            let members = values
                .iter()
                .map(|(name, value)| (name.as_str(), stored(value)));
            Stored::Map(members.collect())
        }
        Value::Ss(texts) => Stored::Texts(texts.iter().map(String::as_str).collect()),
        Value::Ns(numbers) => Stored::Numbers(numbers.iter().map(String::as_str).collect()),
        Value::Bs(binaries) => Stored::Binaries(binaries.iter().map(Vec::as_slice).collect()),
    }
}

impl From<Stored<'_>> for Value {
    fn from(stored: Stored<'_>) -> Self {
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        match stored {
            Stored::Text(text) => Self::S(text.to_owned()),
            Stored::Whole(whole) => Self::N(whole.to_string()),
            Stored::Number(number) => Self::N(number.to_owned()),
            Stored::Bool(bool) => Self::Bool(bool),
            Stored::Bytes(bytes) => Self::B(bytes.to_vec()),
            Stored::Null => Self::Null(true),
            Stored::List(values) => Self::L(values.into_iter().map(Self::from).collect()),
            Stored::Map(members) => {
                let members = members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.into()));
                Self::M(members.collect())
            }
            Stored::Texts(texts) => Self::Ss(owned(texts)),
            Stored::Numbers(numbers) => Self::Ns(owned(numbers)),
            Stored::Binaries(binaries) => {
                Self::Bs(binaries.into_iter().map(<[u8]>::to_vec).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_and_changes_round_trip() {
        let item: Item = serde_json::from_value(json!({
            "pk": {"S": "M#1"}, "sk": {"S": "LEASE"},
            "text": {"S": "ü"}, "whole": {"N": "-7"}, "padded": {"N": "007"}, "real": {"N": "1e-7"},
            "yes": {"BOOL": true}, "bytes": {"B": "AAECAw=="}, "none": {"NULL": true},
            "list": {"L": [{"N": "1"}, {"M": {"a": {"S": ""}}}]},
            "set": {"SS": ["a", "b"]}, "numbers": {"NS": ["1.5"]}, "binaries": {"BS": ["AA=="]},
        }))
        .unwrap();
        let key = Key::of(&item).unwrap();
        assert_eq!(decode(key.clone(), &encode(&item)).unwrap(), item);
        let record = encode_change(&key, None, Some(&item), false);
        let change = decode_change(3, &record).unwrap();
        assert_eq!((change.sequence, change.new.as_ref()), (3, Some(&item)));
        assert_eq!(change.event_name(), "INSERT");
    }

    #[test]
    fn damaged_data_is_an_error() {
        let key = || Key::new("a", "b");
        for damaged in [&[][..], &[0], &[9, 1, 2], &[VERSION, 5, 1]] {
            let error = decode(key(), damaged).unwrap_err();
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }
}
