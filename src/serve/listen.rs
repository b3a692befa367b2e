//! Accepts connections and runs the server's life cycle: listening, loading, answering, draining and exiting.

use super::Settings;
use super::routes::router;
use super::server::{Phase, Server};
use axum::Router;
use hired::Engine;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use tokio_io_timeout::TimeoutStream;

/// How often the server polls for changes that are not signalled.
const TICK: Duration = Duration::from_millis(25);
/// Time for clients to read the last bytes.
const FLUSH: Duration = Duration::from_secs(2);

/// Serves until `stop` requests the end, and then until the running requests have their answers.
///
/// # Errors
/// If the address is in use, the model cannot be loaded, or the engine fails.
pub fn serve<L>(
    settings: Settings,
    load: L,
    announce: impl FnOnce(&str),
    stop: impl Fn() -> bool,
) -> Result<(), String>
where
    L: FnOnce() -> hired::Result<Engine> + Send + 'static,
{
    // Only a few threads, because the CPU cores are for the engine.
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_name("hired-http")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    let server = Arc::new(Server::new(settings)?);
    let outcome = runtime.block_on(live(&server, load, announce, stop));
    if let Some(loaded) = server.loaded() {
        loaded.scheduler.stop();
    }
    // Open connections are not waited for.
    runtime.shutdown_background();
    outcome
}

async fn live<L>(
    server: &Arc<Server>,
    load: L,
    announce: impl FnOnce(&str),
    stop: impl Fn() -> bool,
) -> Result<(), String>
where
    L: FnOnce() -> hired::Result<Engine> + Send + 'static,
{
    let Settings { host, port, .. } = &server.settings;
    let listener = TcpListener::bind((host.as_str(), *port)).await.map_err(|error| {
        format!("--host {host} --port {port}: {error}: choose another port with --port")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    announce(&format!("http://{address}"));
    tracing::info!(%address, model = server.settings.terms.model, "listening");
    let (closing, closed) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, server.clone(), closed));

    let begun = Instant::now();
    let mut loading = tokio::task::spawn_blocking(load);
    let engine = loop {
        tokio::select! {
            loaded = &mut loading => break loaded.map_err(|error| error.to_string())?,
            () = sleep(TICK) => if stop() { return Ok(()) },
        }
    };
    let engine = engine.map_err(|error| error.to_string())?;
    let device = engine.card().map_or("the CPU".into(), |card| card.name.clone());
    engine.notes().iter().for_each(|note| tracing::warn!("{note}"));
    server.take(engine);
    tracing::info!(device, seconds = begun.elapsed().as_secs_f64(), "ready");

    while !stop() && server.phase() != Phase::Broken {
        sleep(TICK).await;
    }
    drain(server).await;
    accepting.abort();
    let _ = closing.send(true);
    // Each connection holds a receiver until it is closed.
    let _ = tokio::time::timeout(FLUSH, closing.closed()).await;
    match server.phase() {
        Phase::Broken => Err("the engine has failed: see the log".into()),
        _ => Ok(()),
    }
}

/// Waits until the running requests have their answers, up to the time limit.
async fn drain(server: &Server) {
    let alive = || server.alive.load(Relaxed);
    tracing::info!(requests = alive(), "stopping");
    server.go(Phase::Leaving);
    // Load balancers learn of the shutdown by polling and send requests until then.
    sleep(server.settings.drain_delay).await;
    server.go(Phase::Draining);
    let until = Instant::now() + server.settings.drain_timeout;
    while alive() > 0 && Instant::now() < until {
        sleep(TICK).await;
    }
    if alive() > 0 {
        tracing::warn!(requests = alive(), "ended before their answers");
        if let Some(loaded) = server.loaded() {
            let scheduler = loaded.scheduler.clone();
            let _ =
                tokio::time::timeout(FLUSH, tokio::task::spawn_blocking(move || scheduler.stop()))
                    .await;
        }
        let until = Instant::now() + FLUSH;
        while alive() > 0 && Instant::now() < until {
            sleep(TICK).await;
        }
    }
}

/// Accepts connections up to the limit of simultaneous ones.
async fn accept(listener: TcpListener, server: Arc<Server>, closed: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(server.settings.max_connections));
    let router = router(server.clone());
    loop {
        // Further connections wait in the system's queue until one is closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(
                    stream,
                    router.clone(),
                    server.clone(),
                    closed.clone(),
                    place,
                ));
            }
            Err(error) => {
                // For example too many open files: other connections must be closed first.
                tracing::warn!(%error, "cannot take a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    server: Arc<Server>,
    mut closed: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    server.metrics.connections(1);
    // Tokens are small and each should be sent immediately.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(server.settings.header_timeout);
    let service = TowerToHyperService::new(router);
    // A client that reads nothing would otherwise hold its answer and its connection for ever.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(server.settings.send_timeout));
    let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Errors on a connection only concern its client.
        _ = connection.as_mut() => {}
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    server.metrics.connections(-1);
    drop((place, closed));
}
