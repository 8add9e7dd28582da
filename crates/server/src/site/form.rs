//! Reading a form: whoever sends one has so long for it, and so much room. Strangers reach two of them.

use super::{MAX_FORM, refusal};
use crate::agents::{Patience, whole_body};
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a form may take. People's forms are some hundred bytes, and who holds a connection holds one of few.
const FORM_TIME: Duration = Duration::from_secs(10);

/// The fields of a form.
pub(super) struct Form<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Response;
    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let bytes = whole_body(body, MAX_FORM, Patience::within(FORM_TIME)).await;
        let bytes = bytes.map_err(|problem| refusal(&parts.uri, None, problem))?;
        let whole = Request::from_parts(parts, Body::from(bytes));
        let form = axum::extract::Form::<T>::from_request(whole, state).await;
        form.map(|axum::extract::Form(fields)| Self(fields)).map_err(|it| it.into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    /// What becomes of a form that comes so many bytes at a time, one piece each second.
    async fn sent(piece: &'static str, pieces: u32) -> Result<BTreeMap<String, String>, u16> {
        let pieces = futures_util::stream::unfold(0, move |sent| async move {
            if sent == pieces {
                return None;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>(piece), sent + 1))
        });
        let request = Request::post("/login")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from_stream(pieces))
            .unwrap();
        let form = Form::from_request(request, &()).await;
        form.map(|Form(fields)| fields).map_err(|response| response.status().as_u16())
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_that_trickles_in_is_given_up_and_a_quick_one_is_read() {
        assert_eq!(sent("a=1&", 2).await.unwrap()["a"], "1");
        let begun = tokio::time::Instant::now();
        assert_eq!(sent("a", 1_000_000).await, Err(408));
        assert!(begun.elapsed() <= FORM_TIME + Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_larger_than_any_is_refused() {
        let large: &'static str = "x".repeat(MAX_FORM).leak();
        assert_eq!(sent(large, 2).await, Err(413));
    }
}
