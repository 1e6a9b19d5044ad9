//! L2, Hatchet engine. How calls are made: the channel, the token, time limits. Each service has its client on top.

use chrono::{DateTime, Utc};
use prost::Message;
use std::{error::Error, fmt, future::Future, time::Duration};
use tonic::{
    Code, IntoStreamingRequest, Request, Status, Streaming,
    client::Grpc,
    codegen::{http::uri::PathAndQuery, tokio_stream::Stream},
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;

/// What all calls have in common. Clones share the channel.
#[derive(Clone)]
pub(crate) struct Calls {
    channel: Channel,
    authorization: MetadataValue<Ascii>,
    /// When the engine no longer takes it.
    expires: Option<DateTime<Utc>>,
    /// Whether the engine has taken it.
    is_known: bool,
    max_message: usize,
}

impl Calls {
    /// `authorization` is sent with every call, and expires then. An answer with more than `max_message` bytes fails its call.
    pub(crate) fn new(
        channel: Channel,
        mut authorization: MetadataValue<Ascii>,
        expires: Option<DateTime<Utc>>,
        max_message: usize,
    ) -> Self {
        // Or it would be in the log of the layers below.
        authorization.set_sensitive(true);
        Self { channel, authorization, expires, is_known: false, max_message }
    }

    /// The same once the engine has taken the token.
    pub(crate) fn once_known(self) -> Self {
        Self { is_known: true, ..self }
    }

    /// What a refusal means: an engine whose database is away takes nobody's token.
    fn judged(&self, status: Status) -> Status {
        if status.code() != Code::Unauthenticated {
            return status;
        }
        match self.expires.filter(|expires| *expires <= Utc::now()) {
            Some(expired) => Status::unauthenticated(expired_on(expired)),
            None if self.is_known => Status::unavailable(
                "the engine does not take the token that it took before: it was revoked, or the engine's database is away",
            ),
            None => status,
        }
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(self.max_message)
            .max_encoding_message_size(self.max_message);
        grpc.ready().await.map_err(|error| Status::unavailable(reasons(&error)))?;
        Ok(grpc)
    }

    /// One question, one answer, within the limit.
    pub(crate) async fn unary<Q, A>(&self, path: &'static str, message: Q, limit: Duration) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = self.request(message);
        request.set_timeout(limit);
        in_time(limit, async {
            let mut grpc = self.grpc().await?;
            grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default()).await
        })
        .await
        .map(tonic::Response::into_inner)
        .map_err(|status| self.judged(status))
    }

    /// One question, answers until one side ends. The engine says nothing before its first answer, so this may wait for
    /// long: nothing that brings an answer about may come behind it.
    pub(crate) async fn answers<Q, A>(&self, path: &'static str, message: Q) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.request(message);
        let mut grpc = self.grpc().await?;
        let answers = grpc.server_streaming(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default());
        answers.await.map(tonic::Response::into_inner).map_err(|status| self.judged(status))
    }

    /// Questions and answers. The same holds as for [`answers`](Self::answers). Once the questions end, so do the answers.
    pub(crate) async fn exchange<Q, A, S>(&self, path: &'static str, questions: S) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
        S: Stream<Item = Q> + Send + 'static,
    {
        let mut request = questions.into_streaming_request();
        request.metadata_mut().insert("authorization", self.authorization.clone());
        let mut grpc = self.grpc().await?;
        let answers = grpc.streaming(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default());
        answers.await.map(tonic::Response::into_inner).map_err(|status| self.judged(status))
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("max_message", &self.max_message).finish_non_exhaustive()
    }
}

/// The words for a token that does not hold any more.
pub(crate) fn expired_on(time: DateTime<Utc>) -> String {
    format!("the token expired on {}", time.format("%Y-%m-%d %H:%M UTC"))
}

/// The engine is told the limit too, but it may be the one that hangs.
async fn in_time<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        // The channel's own clock has the same limit, and calls what it does a cancellation.
        Ok(Err(status)) if status.code() == Code::Cancelled && status.message() == "Timeout expired" => {
            Err(late(limit))
        }
        Ok(outcome) => outcome,
        Err(_) => Err(late(limit)),
    }
}

fn late(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {limit:?}"))
}

/// What a call failed of. The channel's errors say at the top only that something failed.
pub(crate) fn said(status: &Status) -> String {
    chain(status.message().to_owned(), status.source())
}

/// An error and what led to it.
pub(crate) fn reasons(error: &dyn Error) -> String {
    chain(error.to_string(), error.source())
}

fn chain(mut text: String, mut source: Option<&(dyn Error + 'static)>) -> String {
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use tonic::transport::Endpoint;

    #[tokio::test]
    async fn a_refused_token_has_expired_or_nobody_is_known_now() {
        let calls = |life: i64| {
            let channel = Endpoint::from_static("http://localhost:1").connect_lazy();
            Calls::new(channel, MetadataValue::from_static("x"), Some(Utc::now() + TimeDelta::seconds(life)), 1)
        };
        let refused = || Status::unauthenticated("invalid auth token");
        let judged = |calls: Calls| calls.judged(refused());
        assert_eq!(judged(calls(60)).message(), "invalid auth token");
        assert_eq!(judged(calls(60).once_known()).code(), Code::Unavailable);
        for expired in [calls(-1), calls(-1).once_known()].map(judged) {
            assert!(expired.message().contains("expired on"), "{expired}");
            assert_eq!(expired.code(), Code::Unauthenticated);
        }
        let other = calls(-1).once_known().judged(Status::not_found("x"));
        assert_eq!(other.code(), Code::NotFound);
    }
}
