//! The table itself: made where nobody else makes it, and asked whether it works.

use super::{Result, Store, StoreError, classify};
use crate::item::{self, Key};
use crate::time::UnixMs;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType, TimeToLiveSpecification,
};

impl Store {
    /// Makes the table unless it is there: on-demand, with TTL and a stream of both images. On AWS the template
    /// does this; `thrum serve` and tests do it themselves.
    pub async fn ensure_table(&self) -> Result<()> {
        let mut create = self
            .client
            .create_table()
            .table_name(&*self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(
                StreamSpecification::builder()
                    .stream_enabled(true)
                    .stream_view_type(StreamViewType::NewAndOldImages)
                    .build()
                    .expect("complete"),
            );
        for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            create = create
                .attribute_definitions(
                    AttributeDefinition::builder()
                        .attribute_name(name)
                        .attribute_type(ScalarAttributeType::S)
                        .build()
                        .expect("complete"),
                )
                .key_schema(
                    KeySchemaElement::builder()
                        .attribute_name(name)
                        .key_type(kind)
                        .build()
                        .expect("complete"),
                );
        }
        match create.send().await {
            Ok(_) => {}
            Err(error) if error.code() == Some("ResourceInUseException") => return Ok(()),
            Err(error) => return Err(classify(error)),
        }
        self.client
            .update_time_to_live()
            .table_name(&*self.table)
            .time_to_live_specification(
                TimeToLiveSpecification::builder()
                    .attribute_name("expires_at")
                    .enabled(true)
                    .build()
                    .expect("complete"),
            )
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }

    /// Makes what the pipeline needs before its first heartbeat: cursors and pulse. 1 WU a shard, and 2.
    pub async fn ensure_pipeline(&self, now: UnixMs) -> Result<()> {
        for shard in 0..self.shards {
            self.ensure_cursor(shard, now.minute() - 2).await?;
        }
        self.ensure_pulse(now).await
    }

    /// Writes a probe, which the stream carries on like an alert, and reads it back. 1 WU, 1 RU.
    pub async fn probe(&self, now: UnixMs) -> Result<()> {
        self.put(item::probe(&Key::probe(), now)).await?;
        match self.get::<item::Probe>(&Key::probe()).await? {
            Some(probe) if probe.at >= now => Ok(()),
            _ => Err(StoreError::Unavailable("a write was not read back".into())),
        }
    }

    /// Records that a probe came through to notify. 1 WU.
    pub async fn probe_arrived(&self, at: UnixMs) -> Result<()> {
        self.put(item::probe(&Key::probe_arrived(), at)).await
    }

    /// The latest probe that came through to notify. 1 RU.
    pub async fn arrived_probe(&self) -> Result<Option<UnixMs>> {
        let found: Option<item::Probe> = self.get(&Key::probe_arrived()).await?;
        Ok(found.map(|probe| probe.at))
    }
}
