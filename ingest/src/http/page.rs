//! Parts of long lists: `limit` and `cursor`.

use super::problem::Problem;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use thrum_schema::error::Invalid;

/// The longest part of a list.
pub const MAX_PAGE: usize = 1_000;

/// Which part of a list to return.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// The maximum number of items to return, 1 to 1000; all if absent.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// The `next_cursor` of the part before.
    pub cursor: Option<String>,
}

impl Page {
    /// The items of `all` on this page, and the cursor of the next one. `all` is in the order of `key`, which is
    /// unique: items that come and go between two requests shift no others.
    ///
    /// # Errors
    /// The limit or the cursor is invalid.
    pub fn of<T>(
        &self,
        all: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>), Problem> {
        if let Some(limit) = self.limit
            && !(1..=MAX_PAGE).contains(&limit)
        {
            let problem = format!("must be between 1 and {MAX_PAGE} (got {limit})");
            return Err(Invalid::new("limit", problem).into());
        }
        let mut rest = all;
        if let Some(cursor) = &self.cursor {
            let last = decode(cursor)?;
            rest.retain(|item| key(item) > last);
        }
        let limit = self.limit.unwrap_or(rest.len());
        let more = rest.len() > limit;
        rest.truncate(limit);
        let next = rest.last().filter(|_| more).map(|last| encode(&key(last)));
        Ok((rest, next))
    }
}

fn encode(key: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(key)
}

fn decode(cursor: &str) -> Result<String, Problem> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| {
            Invalid::new("cursor", "must be the next_cursor of an earlier response").into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_every_item_once_although_items_come_and_go() {
        let page = |cursor: Option<String>, all: &[&'static str]| {
            let page = Page {
                limit: Some(2),
                cursor,
            };
            page.of(all.to_vec(), |item| (*item).to_owned()).unwrap()
        };
        let (first, next) = page(None, &["a", "b", "c", "d", "e"]);
        assert_eq!(first, ["a", "b"]);
        // The last item of the page is deleted, and another comes before.
        let (second, next) = page(next, &["a", "aa", "c", "d", "e"]);
        assert_eq!(second, ["c", "d"]);
        let (third, next) = page(next, &["a", "aa", "c", "d", "e"]);
        assert_eq!((third, next), (vec!["e"], None));
        for (limit, cursor) in [(Some(0), None), (Some(1_001), None), (None, Some("~"))] {
            let cursor = cursor.map(str::to_owned);
            assert!(
                Page { limit, cursor }
                    .of(vec!["a"], |_| String::new())
                    .is_err()
            );
        }
    }
}
