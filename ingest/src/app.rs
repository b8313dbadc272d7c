//! The service as a whole: the configuration, the table, and the services on top of it.

use crate::config::Config;
use crate::services::monitors::{Mail, RecordError};
use crate::services::sns::SnsMessages;
use crate::services::{Accounts, Health, Monitors, Projects, Refusals, Series};
use std::ops::Deref;
use std::sync::Arc;
use thrum_schema::MonitorId;
use thrum_store::Store;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

/// The parts of the service.
#[derive(Debug)]
pub struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) store: Store,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) series: Arc<Series>,
    pub(crate) monitors: Arc<Monitors>,
    pub(crate) projects: Projects,
    pub(crate) health: Health,
    pub(crate) refusals: Refusals,
    pub(crate) sns: SnsMessages,
}

impl App {
    /// A service on `store`.
    pub fn new(store: Store, config: Config) -> Self {
        let config = Arc::new(config);
        let accounts = Arc::new(Accounts::new(store.clone(), Arc::clone(&config)));
        let series = Arc::new(Series::new(store.clone()));
        let monitors = Arc::new(Monitors::new(
            store.clone(),
            Arc::clone(&config),
            Arc::clone(&accounts),
            Arc::clone(&series),
        ));
        Self(Arc::new(Parts {
            projects: Projects::new(store.clone(), Arc::clone(&accounts), Arc::clone(&monitors)),
            health: Health::new(store.clone(), config.regions.clone()),
            refusals: Refusals::default(),
            sns: SnsMessages::new(config.fetch.clone(), config.sns_topics.clone()),
            config,
            store,
            accounts,
            series,
            monitors,
        }))
    }

    /// The monitor to which an e-mail address belongs.
    ///
    /// # Errors
    /// Several monitors have its slug, or the table failed.
    pub async fn mailbox(&self, address: &str) -> Result<Option<MonitorId>, RecordError> {
        self.monitors.mailbox(address).await
    }

    /// Records an e-mail to a monitor.
    ///
    /// # Errors
    /// Why it was not recorded.
    pub async fn receive(&self, to: MonitorId, mail: Mail<'_>) -> Result<(), RecordError> {
        self.monitors.record_mail(to, mail).await.map(drop)
    }

    /// Loads the monitors of every project and their states, so that the first list is fast.
    ///
    /// # Errors
    /// The table failed. The first list then loads them.
    pub async fn warm(&self) -> thrum_store::Result<()> {
        self.monitors.warm().await
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
