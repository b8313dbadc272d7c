//! Reads on any connection.

use super::codec;
use super::fault::failed;
use crate::key::Key;
use crate::stream::Change;
use crate::table::{Item, Page, Query, Range, Result, item_bytes};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Maximum size of a page, in bytes, as in DynamoDB.
const PAGE_BYTES: usize = 1 << 20;

/// Reads one item and its stored expiry.
pub fn get(connection: &Connection, key: &Key) -> Result<Option<(Item, Option<i64>)>> {
    let found: Option<(Vec<u8>, Option<i64>)> = connection
        .prepare_cached("SELECT body, expires FROM items WHERE pk = ?1 AND sk = ?2")
        .and_then(|mut statement| {
            statement
                .query_row(params![key.pk, key.sk], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()
        })
        .map_err(failed)?;
    found
        .map(|(body, expires)| Ok((codec::decode(key.clone(), &body)?, expires)))
        .transpose()
}

/// Reads a page of a query, and the size of its items in bytes, which sets its cost.
pub fn query(connection: &Connection, query: &Query) -> Result<(Page, usize)> {
    let bounds = Bounds::of(query);
    // Each combination is a separate statement, so that the index is used.
    let mut sql = "SELECT sk, body FROM items WHERE pk = ?1".to_owned();
    let mut values: Vec<&str> = vec![&query.pk];
    for (bound, comparison) in [
        (&bounds.from, ">="),
        (&bounds.after, ">"),
        (&bounds.to, "<="),
        (&bounds.before, "<"),
    ] {
        if let Some(bound) = bound {
            values.push(bound);
            sql.push_str(&format!(" AND sk {comparison} ?{}", values.len()));
        }
    }
    sql.push_str(if query.newest_first {
        " ORDER BY sk DESC"
    } else {
        " ORDER BY sk"
    });
    let mut page = Page::default();
    let mut bytes = 0;
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement
        .query(rusqlite::params_from_iter(values))
        .map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let full = query.limit.is_some_and(|limit| page.items.len() >= limit);
        if full || bytes >= PAGE_BYTES {
            page.next = page.items.last().and_then(Key::of);
            break;
        }
        let item = item(&query.pk, row)?;
        bytes += item_bytes(&item);
        page.items.push(item);
    }
    Ok((page, bytes))
}

fn item(pk: &str, row: &Row<'_>) -> Result<Item> {
    let sk: String = row.get(0).map_err(failed)?;
    let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?));
    codec::decode(Key::new(pk, sk), body.map_err(failed)?)
}

/// Changes after `after`, at most `limit`, in order.
pub fn changes(connection: &Connection, after: i64, limit: usize) -> Result<Vec<Change>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection
        .prepare_cached(
            "SELECT sequence, record FROM changes WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )
        .map_err(failed)?;
    let mut rows = statement.query(params![after, limit]).map_err(failed)?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let sequence = row.get(0).map_err(failed)?;
        let record = row.get_ref(1).and_then(|record| Ok(record.as_blob()?));
        match codec::decode_change(sequence, record.map_err(failed)?) {
            Ok(change) => changes.push(change),
            // One bad record must not block the others.
            Err(error) => {
                tracing::error!(sequence, %error, "skipping a change that can't be read");
            }
        }
    }
    Ok(changes)
}

/// All items of the table, in the order of their keys.
pub fn scan(connection: &Connection) -> Result<Vec<Item>> {
    let mut statement = connection
        .prepare_cached("SELECT sk, body, pk FROM items ORDER BY pk, sk")
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let pk: String = row.get(2).map_err(failed)?;
        items.push(item(&pk, row)?);
    }
    Ok(items)
}

/// The bounds of a page's sort keys.
#[derive(Default)]
struct Bounds {
    from: Option<String>,
    after: Option<String>,
    to: Option<String>,
    before: Option<String>,
}

impl Bounds {
    fn of(query: &Query) -> Self {
        let mut bounds = match &query.range {
            Range::All => Self::default(),
            Range::Prefix(prefix) => Self {
                from: Some(prefix.clone()),
                before: successor(prefix),
                ..Self::default()
            },
            Range::Between(first, last) => Self {
                from: Some(first.clone()),
                to: Some(last.clone()),
                ..Self::default()
            },
        };
        if let Some(after) = &query.after {
            let start = Some(after.sk.clone());
            if query.newest_first {
                bounds.before = start;
                bounds.to = None;
            } else {
                bounds.after = start;
                bounds.from = None;
            }
        }
        bounds
    }
}

/// The smallest string that is greater than all that start with `prefix`; `None` if there is none.
fn successor(prefix: &str) -> Option<String> {
    let mut prefix = prefix.to_owned();
    while let Some(last) = prefix.pop() {
        // Only surrogates lie between these two.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(successor("CH#").as_deref(), Some("CH$"));
        assert_eq!(successor("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(successor("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(successor(""), None);
    }
}
