//! Probes and metrics, on a thread of their own: they answer also where tasks block the threads of the worker.

use crate::{
    exit::{self, Failure},
    health::{Answer, Health},
    metrics::{self, About, Load},
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

#[derive(Debug)]
struct Served {
    about: About,
    health: Health,
}

/// Listens there from now on. Answers with where that is: port 0 becomes a free one.
pub(crate) fn start(address: SocketAddr, about: About, health: Health) -> Result<SocketAddr, Failure> {
    let refused = |error: std::io::Error| {
        Failure::new(exit::CONFIGURATION, format!("`worker.http`: cannot listen on {address}: {error}"))
    };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(prometheus))
        .route("/autoscale", get(autoscale))
        .with_state(Arc::new(Served { about, health }));
    let serve = move || {
        runtime.block_on(async {
            let served = async { axum::serve(tokio::net::TcpListener::from_std(listener)?, routes).await };
            if let Err(error) = served.await {
                tracing::error!(%error, "probes are served no more");
            }
        });
    };
    // Ends with the process.
    thread::Builder::new().name("probes".into()).spawn(serve).map_err(refused)?;
    Ok(bound)
}

fn answered(answer: Answer) -> (StatusCode, String) {
    match answer {
        Ok(words) => (StatusCode::OK, format!("{words}\n")),
        Err(words) => (StatusCode::SERVICE_UNAVAILABLE, format!("{words}\n")),
    }
}

async fn livez(State(served): State<Arc<Served>>) -> impl IntoResponse {
    answered(served.health.is_alive())
}

async fn readyz(State(served): State<Arc<Served>>) -> impl IntoResponse {
    answered(served.health.is_ready())
}

async fn prometheus(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let Served { about, health } = &*served;
    let (is_alive, is_ready) = (health.is_alive().is_ok(), health.is_ready().is_ok());
    let text = metrics::prometheus(about, &health.stats.snapshot(), is_alive, is_ready);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn autoscale(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let load = Load::from(served.health.stats.snapshot());
    match serde_json::to_string(&load) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}
