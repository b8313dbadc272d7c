//! Requests and their results.

use crate::item;
use crate::key::Key;
use crate::table::{attr, create, put, set, update};
use crate::{Result, Store, StoreError};
use serde::Deserialize;
use thrum_schema::id::RequestId;
use thrum_schema::signal::Bar;
use thrum_schema::signal::request::Request;
use thrum_schema::time::UnixMs;
use thrum_schema::timer::{Timer, What};

/// Maximum length of a text in an item, in bytes: items have at most 400 kB.
const PART: usize = 300_000;
/// After how long to check a request that may have been lost on its way, in milliseconds.
pub const AGAIN_MS: i64 = 60_000;

#[derive(Deserialize)]
struct Text {
    text: String,
}

impl Store {
    /// Writes a request, the bars sent with it, if any, and the timer that checks whether it was
    /// lost. 4 to 6 WU, plus 2 per kB of bars.
    pub async fn put_request(
        &self,
        request: &Request,
        bars: Option<&[Bar]>,
        now: UnixMs,
    ) -> Result<()> {
        let timer = Timer {
            due: now + AGAIN_MS,
            what: What::Request {
                request: request.id,
            },
        };
        let mut writes = vec![create(item::request(request)), put(self.timer_item(timer))];
        if let Some(bars) = bars {
            let text = serde_json::to_string(bars).expect("bars map to JSON");
            let key = Key::request_bars(request.id);
            writes.push(put(item::request_text(&key, request.id, &text)));
        }
        self.transact(writes).await
    }

    /// A request. 1 RU.
    pub async fn request(&self, request: RequestId) -> Result<Option<Request>> {
        self.get(Key::request(request)).await
    }

    /// The bars that were sent with a request. 1 RU per 4 kB.
    pub async fn request_bars(&self, request: RequestId) -> Result<Vec<Bar>> {
        let found: Option<Text> = self.get(Key::request_bars(request)).await?;
        let text = found.map(|text| text.text).unwrap_or_default();
        serde_json::from_str(&text)
            .map_err(|error| StoreError::Corrupt(format!("bars of {request}: {error}")))
    }

    /// Stores the result of a request, once: a finished request does not change. 1 WU per kB, plus
    /// 1.
    pub async fn finish_request(
        &self,
        request: RequestId,
        result: std::result::Result<&str, &str>,
        now: UnixMs,
    ) -> Result<()> {
        let finished = set("finished", now);
        let finished = match result {
            Ok(text) => {
                // Each attempt writes its parts under its own token, and only one attempt becomes
                // the result.
                let token = format!("{:08x}", self.world.random() as u32);
                let mut parts = 0_u32;
                let mut rest = text;
                while !rest.is_empty() {
                    let part = &rest[..rest.floor_char_boundary(PART)];
                    let key = Key::result(request, &token, parts);
                    self.put(item::request_text(&key, request, part)).await?;
                    rest = &rest[part.len()..];
                    parts += 1;
                }
                finished
                    .set("state", "done")
                    .set("parts", parts)
                    .set("attempt", token)
            }
            Err(error) => finished.set("state", "failed").set("error", error),
        };
        let queued = attr("state").eq("queued");
        // Otherwise, another attempt finished it, or it is gone.
        self.try_write(update(Key::request(request), finished).when(queued))
            .await
            .map(drop)
    }

    /// The result of a finished request, as JSON text. 1 RU per 4 kB.
    pub async fn request_result(&self, request: &Request) -> Result<Option<String>> {
        let mut text = String::new();
        let token = request.attempt.as_deref().unwrap_or_default();
        for part in 0..request.parts.unwrap_or(0) {
            match self
                .get::<Text>(Key::result(request.id, token, part))
                .await?
            {
                Some(part) => text.push_str(&part.text),
                None => return Ok(None),
            }
        }
        Ok((!text.is_empty()).then_some(text))
    }
}
