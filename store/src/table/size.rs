//! The size of items and the cost of calls, by DynamoDB's formulas.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>

use super::{Item, Read, Value};

/// Maximum item size, in bytes.
pub const MAX_ITEM_BYTES: usize = 400 * 1024;

/// The size of an item: the bytes of its attributes' names and values.
pub fn item_bytes(item: &Item) -> usize {
    item.iter()
        .map(|(name, value)| name.len() + value_bytes(value))
        .sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::S(text) => text.len(),
        Value::N(number) => number_bytes(number),
        Value::B(bytes) => bytes.len(),
        Value::Bool(_) | Value::Null(_) => 1,
        Value::Ss(members) => members.iter().map(String::len).sum(),
        Value::Ns(members) => members.iter().map(|number| number_bytes(number)).sum(),
        Value::Bs(members) => members.iter().map(Vec::len).sum(),
        Value::L(values) => {
            3 + values
                .iter()
                .map(|value| 1 + value_bytes(value))
                .sum::<usize>()
        }
        Value::M(values) => {
            let sizes = values
                .iter()
                .map(|(name, value)| 1 + name.len() + value_bytes(value));
            3 + sizes.sum::<usize>()
        }
    }
}

/// One byte per two significant digits, plus one; one more for a minus sign.
fn number_bytes(number: &str) -> usize {
    let digits = number.bytes().filter(u8::is_ascii_digit);
    let digits: Vec<u8> = digits.skip_while(|digit| *digit == b'0').collect();
    let trailing = digits
        .iter()
        .rev()
        .take_while(|digit| **digit == b'0')
        .count();
    (digits.len() - trailing).div_ceil(2) + 1 + usize::from(number.starts_with('-'))
}

/// The units for writing an item; `bytes` is the larger of its sizes before and after.
pub fn write_units(bytes: usize) -> f64 {
    units(bytes.div_ceil(1024).max(1))
}

/// The units for reading `bytes`.
pub fn read_units(bytes: usize, read: Read) -> f64 {
    let whole = units(bytes.div_ceil(4096).max(1));
    match read {
        Read::Consistent => whole,
        Read::Eventual => whole / 2.0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "items are small")]
fn units(n: usize) -> f64 {
    n as f64
}
