//! Style sheet, script and icon. They are part of the binary, and browsers cache them until the
//! next version.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// The query in the URLs of assets: a hash of all assets, so that browsers fetch them again after a
/// change.
pub static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all = FILES
        .iter()
        .fold(Sha256::new(), |hash, (_, _, text)| hash.chain_update(text));
    format!("{:x}", all.finalize()).chars().take(12).collect()
});

const FILES: [(&str, &str, &str); 3] = [
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("../../assets/style.css"),
    ),
    (
        "script.js",
        "text/javascript; charset=utf-8",
        include_str!("../../assets/script.js"),
    ),
    (
        "icon.svg",
        "image/svg+xml",
        include_str!("../../assets/icon.svg"),
    ),
];

/// `/favicon.ico`, which browsers request if no page names an icon.
pub async fn icon() -> Response {
    let mut response = get(Path("icon.svg".to_owned())).await;
    let cache = HeaderValue::from_static("public, max-age=86400");
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    response
}

/// `/assets/{file}`
pub async fn get(Path(file): Path<String>) -> Response {
    match FILES.iter().find(|(name, ..)| *name == file) {
        Some((_, kind, text)) => {
            let headers = [
                (header::CONTENT_TYPE, *kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (headers, *text).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
