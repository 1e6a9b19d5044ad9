//! L2, Hatchet engine. How calls are made: the channel, the token, time limits. Each service has its client on top.

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
    max_message: usize,
}

impl Calls {
    /// `authorization` is sent with every call. An answer with more than `max_message` bytes fails its call.
    pub(crate) fn new(channel: Channel, mut authorization: MetadataValue<Ascii>, max_message: usize) -> Self {
        // Or it would be in the log of the layers below.
        authorization.set_sensitive(true);
        Self { channel, authorization, max_message }
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
        let answers =
            grpc.server_streaming(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default()).await?;
        Ok(answers.into_inner())
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
        let answers = grpc.streaming(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default()).await?;
        Ok(answers.into_inner())
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("max_message", &self.max_message).finish_non_exhaustive()
    }
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
