//! The table itself: made where nobody else makes it, and asked whether it works.

use super::{Result, Store, StoreError, classify};
use crate::item::{Key, n, s};
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

    /// Whether the table takes writes and gives them back. 1 WU, 1 RU.
    pub async fn probe(&self, now: UnixMs) -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Probe {
            at: UnixMs,
        }
        let key = Key::probe();
        let mut item = key.attributes();
        item.insert("kind".into(), s("probe"));
        item.insert("at".into(), n(now.0));
        self.put(item).await?;
        match self.get::<Probe>(&key).await? {
            Some(probe) if probe.at >= now => Ok(()),
            _ => Err(StoreError::Unavailable("a write was not read back".into())),
        }
    }
}
