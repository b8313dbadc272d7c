//! Requests and their results.

use super::{Result, Store, StoreError, classify};
use crate::id::RequestId;
use crate::item::{self, Key, n, s};
use crate::signal::Bar;
use crate::signal::request::{Request, RequestState};
use crate::time::UnixMs;
use crate::timer::{Timer, What};
use serde::Deserialize;

/// Longest text of an item, in bytes: items have at most 400 kB.
const PART: usize = 300_000;
/// When a request is looked at again that may have been lost on its way, in milliseconds.
pub const AGAIN_MS: i64 = 60_000;

#[derive(Deserialize)]
struct Text {
    text: String,
}

impl Store {
    /// Writes a request, with its bars if they come with it, and the timer that looks whether it was lost. 4 to 6 WU, and
    /// 2 more per kB of bars.
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
        let mut writes = vec![
            self.create(item::request(request)),
            self.write(self.timer_item(timer)),
        ];
        if let Some(bars) = bars {
            let text = serde_json::to_string(bars).expect("bars map to JSON");
            let key = Key::request_bars(request.id);
            writes.push(self.write(item::request_text(&key, request.id, &text)));
        }
        self.transact(writes).await
    }

    /// A request. 1 RU.
    pub async fn request(&self, request: RequestId) -> Result<Option<Request>> {
        self.get(&Key::request(request)).await
    }

    /// The bars that came with a request. 1 RU per 4 kB.
    pub async fn request_bars(&self, request: RequestId) -> Result<Vec<Bar>> {
        let found: Option<Text> = self.get(&Key::request_bars(request)).await?;
        let text = found.map(|text| text.text).unwrap_or_default();
        serde_json::from_str(&text)
            .map_err(|error| StoreError::Corrupt(format!("bars of {request}: {error}")))
    }

    /// Stores the result of a request, once: what was finished stays as it is. 1 WU per kB, and 1.
    pub async fn finish_request(
        &self,
        request: RequestId,
        result: std::result::Result<&str, &str>,
        now: UnixMs,
    ) -> Result<()> {
        let mut values = vec![(":finished", n(now.0)), (":queued", s("queued"))];
        let state = if result.is_ok() {
            RequestState::Done
        } else {
            RequestState::Failed
        };
        let mut expression = "SET #state = :state, finished = :finished".to_owned();
        match result {
            Ok(text) => {
                // Under a name of this attempt: another that is under way writes its own, and only one is the result.
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
                expression.push_str(", parts = :parts, attempt = :attempt");
                values.push((":parts", n(parts)));
                values.push((":attempt", s(token)));
            }
            Err(error) => {
                expression.push_str(", #error = :error");
                values.push((":error", s(error)));
            }
        }
        values.push((
            ":state",
            s(if state == RequestState::Done {
                "done"
            } else {
                "failed"
            }),
        ));
        let mut names = vec![("#state", "state")];
        if result.is_err() {
            names.push(("#error", "error"));
        }
        let finished = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(Key::request(request).attributes()))
            .update_expression(expression)
            .condition_expression("#state = :queued")
            .set_expression_attribute_names(super::names_of(&names))
            .set_expression_attribute_values(super::values_of(values))
            .send()
            .await
            .map_err(classify);
        match finished {
            // Finished by another, or gone.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The result of a request that is done, as JSON text. 1 RU per 4 kB.
    pub async fn request_result(&self, request: &Request) -> Result<Option<String>> {
        let mut text = String::new();
        let token = request.attempt.as_deref().unwrap_or_default();
        for part in 0..request.parts.unwrap_or(0) {
            match self
                .get::<Text>(&Key::result(request.id, token, part))
                .await?
            {
                Some(part) => text.push_str(&part.text),
                None => return Ok(None),
            }
        }
        Ok((!text.is_empty()).then_some(text))
    }
}
