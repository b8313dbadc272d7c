//! What requests cost their keys: quota and rate, taken once a request was found fit and before it does anything, and
//! told in the headers of its reply.

use crate::app::App;
use crate::problem::Problem;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::key::ApiKey;
use thrum_schema::plan::{Limits, Rate};
use thrum_schema::{Project, ProjectId};
use thrum_store::StoreError;
use thrum_store::{Balance, Charge, Charged};

/// Where a request's balance is written down, for its reply.
#[derive(Debug, Clone, Default)]
pub struct Tab(Arc<Mutex<Option<Balance>>>);

impl Tab {
    /// The tab of a request.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_default()
    }

    fn note(&self, balance: Option<Balance>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = balance;
    }

    fn balance(&self) -> Option<Balance> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody with an API key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key.
    pub key: ApiKey,
    /// Where the balance goes.
    pub tab: Tab,
    /// Whether it costs nothing: somebody looks at a page.
    pub free: bool,
}

impl Caller {
    /// Charges the request to the key, in one conditional update or two.
    ///
    /// # Errors
    /// 429 if quota or rate are used up, and nothing is charged; 503 if the table can't tell.
    pub async fn charge(&self, app: &App) -> Result<(), Problem> {
        if self.free {
            return Ok(());
        }
        let limits = app.limits_of_key(&self.key).await?;
        let charge = Charge {
            project: self.key.project,
            key_id: self.key.meter(),
            quota: limits.requests_per_day,
            rate: limits.requests_per_minute.map(Rate::per_minute),
        };
        let now = app.store.world().now();
        match app.store.charge(&charge, now).await? {
            Charged::Taken(balance) => {
                self.tab.note(balance);
                Ok(())
            }
            Charged::Refused {
                balance,
                wait_ms,
                quota,
            } => {
                self.tab.note(Some(balance));
                let what = if quota {
                    "this key's requests of the day are used up"
                } else {
                    "this key's requests come too fast"
                };
                Err(Problem::too_many(what, wait_ms))
            }
        }
    }
}

impl App {
    /// A project, as it was within the last half minute, if there is one.
    pub(crate) async fn find_project(
        &self,
        id: ProjectId,
    ) -> Result<Option<Arc<Project>>, StoreError> {
        let now = self.store.world().now();
        if let Some(project) = self.projects.get(&id, now) {
            return Ok(Some(project));
        }
        let found = self.store.project(id).await?.map(Arc::new);
        if let Some(project) = &found {
            self.projects.put(id, Arc::clone(project), now);
        }
        Ok(found)
    }

    /// A project that a key leads to. One that is being deleted has the least of plans.
    pub(crate) async fn project(&self, id: ProjectId) -> Result<Arc<Project>, StoreError> {
        let found = self.find_project(id).await?;
        Ok(found.unwrap_or_else(|| {
            Arc::new(Project {
                plan: "free".to_owned(),
                ..Project::new(id, "")
            })
        }))
    }

    /// What a project's plan allows.
    pub(crate) async fn limits(&self, id: ProjectId) -> Result<Limits, StoreError> {
        let project = self.project(id).await?;
        Ok(self.config.plans.limits(&project.plan))
    }

    /// What a key may use: its own limits, and its project's plan where it has none.
    async fn limits_of_key(&self, key: &ApiKey) -> Result<Limits, StoreError> {
        let plan = self.limits(key.project).await?;
        let own = key.limits.unwrap_or_default();
        Ok(Limits {
            requests_per_day: own.requests_per_day.or(plan.requests_per_day),
            requests_per_minute: own.requests_per_minute.or(plan.requests_per_minute),
            ..plan
        })
    }
}

/// Adds what is left to every metered reply: as the IETF's drafts name it, and as many clients still read it.
pub async fn headers(mut request: Request, next: Next) -> Response {
    let tab = Tab::default();
    request.extensions_mut().insert(tab.clone());
    let mut response = next.run(request).await;
    if let Some(balance) = tab.balance() {
        let figures = [
            ("limit", balance.limit),
            ("remaining", balance.remaining),
            ("reset", seconds(balance.reset_ms)),
        ];
        for (name, value) in figures {
            for prefix in ["ratelimit", "x-ratelimit"] {
                let name = HeaderName::try_from(format!("{prefix}-{name}"));
                if let Ok(name) = name {
                    let value = HeaderValue::from(value);
                    response.headers_mut().insert(name, value);
                }
            }
        }
    }
    response
}

/// Milliseconds as whole seconds, rounded up: waiting that long is enough.
pub fn seconds(ms: i64) -> i64 {
    (ms.max(0) + 999) / 1000
}
