//! `serve`: the endpoint.

use stackferry_transfer::endpoint::{EndpointConfig, EndpointServer};

use super::Context;
use stackferry_problem::{Exit, Problem};

pub(super) async fn run(context: &Context) -> Result<Exit, Problem> {
    let config = context.config()?;
    let serve = config.serve()?;
    let host_key = config.host_key()?;
    stackferry_engine::app::make_state_dir(&config)?;
    let endpoint = EndpointServer::bind(EndpointConfig {
        listen: serve.listen.address(),
        host_key: host_key.clone(),
        issuers: serve.issuers.clone(),
        datastores: serve.datastores.iter().map(|(name, path)| (name.to_string(), path.to_path_buf())).collect(),
        restore: serve.restore.iter().map(ToString::to_string).collect(),
    })
    .await?;
    let address = endpoint.local_addr().map_err(|error| Problem::io("look at", "the listening socket", &error))?;
    tracing::info!(%address, host_key = endpoint.public_host_key(), "the endpoint listens");
    let cancel = context.cancel().clone();
    let stop = async move {
        while !cancel.is_cancelled() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    endpoint.run(stop).await;
    tracing::info!("the endpoint has ended");
    Ok(Exit::Done)
}
