//! Converts between the events of Lambda function URLs and HTTP requests and responses.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads>

use super::peer::ClientIp;
use super::site::quote;
use super::traced::traced;
use aws_lambda_events::event::lambda_function_urls::{
    LambdaFunctionUrlRequest, LambdaFunctionUrlResponse,
};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt;
use thrum_store::trace::Trace;

/// Which of the ways to the function are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    /// The function URL, and the custom domain if there is one.
    All,
    /// Only the custom domain, so that nobody gets past what is in front of it.
    OnlyDomain,
}

/// Answers an event with `router`, within `trace`. An event that is not a valid HTTP request gets a 400.
pub async fn answer(
    router: Router,
    event: LambdaFunctionUrlRequest,
    doors: Doors,
    trace: Trace,
) -> LambdaFunctionUrlResponse {
    if doors == Doors::OnlyDomain && is_by_url(&event) {
        let refused = "this URL is closed; use the public URL of this Thrum\n";
        return reply((StatusCode::FORBIDDEN, refused).into_response()).await;
    }
    let response = match request(event) {
        Some(request) => traced(router, request, trace).await,
        None => (StatusCode::BAD_REQUEST, "this is not an HTTP request\n").into_response(),
    };
    reply(response).await
}

/// Whether an event came through the function URL: `<id>.lambda-url.<region>.on.aws`.
fn is_by_url(event: &LambdaFunctionUrlRequest) -> bool {
    let domain = event.request_context.domain_name.as_deref();
    domain.is_none_or(|domain| domain.contains(".lambda-url."))
}

fn request(event: LambdaFunctionUrlRequest) -> Option<Request<Body>> {
    // An HTTP API has decoded the path; a function URL has not.
    // <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>
    let is_decoded = !is_by_url(&event);
    let context = event.request_context;
    let mut uri = event.raw_path.unwrap_or_default();
    if is_decoded {
        let segments: Vec<String> = uri.split('/').map(quote).collect();
        uri = segments.join("/");
    }
    if let Some(query) = event.raw_query_string.filter(|query| !query.is_empty()) {
        uri.push('?');
        uri.push_str(&query);
    }
    let body = event.body.unwrap_or_default();
    let body = if event.is_base64_encoded {
        BASE64_STANDARD.decode(body).ok()?
    } else {
        body.into_bytes()
    };
    let mut request = Request::builder()
        .method(context.http.method?.as_str())
        .uri(uri)
        .body(Body::from(body))
        .ok()?;
    let headers = request.headers_mut();
    *headers = event.headers;
    // Function URLs know only https, and the context has the client's address.
    headers.remove("x-forwarded-for");
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    // Lambda moves the cookies out of the headers.
    if let Some(cookies) = event.cookies {
        headers.insert(
            header::COOKIE,
            HeaderValue::try_from(cookies.join("; ")).ok()?,
        );
    }
    if let Some(domain) = context
        .domain_name
        .filter(|_| !headers.contains_key(header::HOST))
    {
        headers.insert(header::HOST, HeaderValue::try_from(domain).ok()?);
    }
    if let Some(ip) = context.http.source_ip.and_then(|ip| ip.parse().ok()) {
        request.extensions_mut().insert(ClientIp(ip));
    }
    Some(request)
}

async fn reply(response: Response) -> LambdaFunctionUrlResponse {
    let (mut parts, body) = response.into_parts();
    let mut reply = LambdaFunctionUrlResponse::default();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tracing::error!(%error, "the body of a reply could not be read");
            reply.status_code = 500;
            return reply;
        }
    };
    let cookies = parts.headers.get_all(header::SET_COOKIE).iter();
    reply.cookies = cookies
        .filter_map(|cookie| cookie.to_str().ok().map(str::to_owned))
        .collect();
    parts.headers.remove(header::SET_COOKIE);
    reply.status_code = parts.status.as_u16().into();
    reply.headers = parts.headers;
    let body = match String::from_utf8(bytes.into()) {
        Ok(text) => text,
        Err(binary) => {
            reply.is_base64_encoded = true;
            BASE64_STANDARD.encode(binary.as_bytes())
        }
    };
    reply.body = Some(body);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderMap, Uri};
    use axum::routing::{any, post};
    use bytes::Bytes;
    use serde_json::{Value, json};
    use thrum_schema::world::ManualWorld;
    use thrum_schema::{TraceId, UnixMs};

    async fn respond(event: Value) -> LambdaFunctionUrlResponse {
        let router = Router::new()
            .route("/echo", post(|body: Bytes| async move { body }))
            .route(
                "/{*rest}",
                any(|uri: Uri, headers: HeaderMap| async move {
                    let cookie = headers.get(header::COOKIE).cloned();
                    let set = [(header::SET_COOKIE, "a=1"), (header::SET_COOKIE, "b=2")];
                    let mut response = format!("{uri} {cookie:?}").into_response();
                    for (name, value) in set {
                        response
                            .headers_mut()
                            .append(name, HeaderValue::from_static(value));
                    }
                    response
                }),
            );
        let event = serde_json::from_value(event).unwrap();
        answer(router, event, Doors::All, trace()).await
    }

    fn trace() -> Trace {
        let world = ManualWorld::new(UnixMs(1_763_700_000_123), 7);
        Trace::new(TraceId::new(&*world))
    }

    fn event(method: &str, path: &str) -> Value {
        json!({
            "version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {}, "isBase64Encoded": false,
            "requestContext": { "timeEpoch": 0, "http": { "method": method, "sourceIp": "192.0.2.1" } },
        })
    }

    #[tokio::test]
    async fn cookies_are_separate_from_headers_in_both_directions() {
        let mut sent = event("GET", "/x");
        sent["cookies"] = json!(["one=1", "two=2"]);
        sent["rawQueryString"] = "a=b%20c".into();
        let reply = respond(sent).await;
        assert_eq!(reply.status_code, 200);
        assert_eq!(
            reply.body.as_deref(),
            Some("/x?a=b%20c Some(\"one=1; two=2\")")
        );
        assert_eq!(reply.cookies, ["a=1", "b=2"]);
        assert!(!reply.headers.contains_key(header::SET_COOKIE));
    }

    #[tokio::test]
    async fn binary_bodies_are_base64() {
        let mut sent = event("POST", "/echo");
        sent["isBase64Encoded"] = true.into();
        sent["body"] = BASE64_STANDARD.encode([0xff, 0x00, 0xfe]).into();
        let reply = respond(sent.clone()).await;
        assert!(reply.is_base64_encoded);
        assert_eq!(reply.body, Some(BASE64_STANDARD.encode([0xff, 0x00, 0xfe])));
        sent["body"] = "%%%".into();
        assert_eq!(respond(sent).await.status_code, 400);
    }

    #[tokio::test]
    async fn a_path_arrives_the_same_whether_aws_has_decoded_it_or_not() {
        for (domain, path) in [
            (
                "abc.lambda-url.eu-central-1.on.aws",
                "/badge/k/s/gr%C3%BCn%20%25.svg",
            ),
            ("thrum.example.org", "/badge/k/s/grün %.svg"),
        ] {
            let mut event = event("GET", path);
            event["requestContext"]["domainName"] = domain.into();
            let reply = respond(event).await;
            let body = reply.body.unwrap_or_default();
            assert!(
                body.starts_with("/badge/k/s/gr%C3%BCn%20%25.svg "),
                "{domain}: {body}"
            );
        }
    }

    #[tokio::test]
    async fn a_closed_function_url_answers_only_for_the_domain() {
        let ask = async |domain: &str| {
            let router = Router::new().route("/x", any(|| async { "OK" }));
            let mut event = event("GET", "/x");
            event["requestContext"]["domainName"] = domain.into();
            let event = serde_json::from_value(event).unwrap();
            let reply = answer(router, event, Doors::OnlyDomain, trace()).await;
            reply.status_code
        };
        assert_eq!(ask("abc.lambda-url.eu-central-1.on.aws").await, 403);
        assert_eq!(ask("thrum.example.org").await, 200);
    }

    #[tokio::test]
    async fn an_invalid_request_gets_a_400() {
        for (method, path) in [
            ("GET", "no path"),
            ("G ET", "/x"),
            ("", "/x"),
            ("GET", "http://"),
        ] {
            assert_eq!(
                respond(event(method, path)).await.status_code,
                400,
                "{method} {path}"
            );
        }
    }
}
