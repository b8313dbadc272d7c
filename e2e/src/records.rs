//! Changes as stream records, in the JSON that Lambda delivers.

use serde_json::{Value, json};
use thrum_store::stream::Change;

/// The record of a change. A missing image is left out, not null, because filters see the
/// difference.
pub fn record(change: &Change) -> Value {
    let mut images = json!({
        "Keys": change.key.attributes(),
        "SequenceNumber": change.sequence.to_string(),
        "SizeBytes": 0,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    });
    for (name, image) in [("NewImage", &change.new), ("OldImage", &change.old)] {
        if let Some(image) = image {
            images[name] = json!(image);
        }
    }
    let who = json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"});
    json!({
        "eventID": change.sequence.to_string(),
        "eventName": change.event_name(),
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "local",
        "dynamodb": images,
        "userIdentity": if change.expired { who } else { Value::Null },
    })
}
