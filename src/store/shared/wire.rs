//! A connection to the store.
//!
//! Owns: how one server, a sentinels' master or a cluster is connected to,
//! subscribed at and asked; which errors mean that it is out of reach.
//! Must not know: what is asked; when to connect again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo, SingleNodeRoutingInfo};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisConnectionInfo, RedisError, TlsCertificates, TlsMode, Value, cmd,
};

use crate::core::secret::Secret;
use crate::core::shared::{Address, Kind};

/// How long a connection may take to come about, and each question to be
/// answered. With one try again a request waits for less than 2 s.
pub(super) const LIMIT: Duration = Duration::from_millis(800);

/// Takes what the store says unasked. Called in the order in which it came,
/// before later replies of the same server are handed out.
pub(super) type OnPush = std::sync::Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection; clones share it, and what they ask is pipelined.
#[derive(Clone)]
pub(super) enum Wire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A server of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// There is but one.
    Only,
    /// A master of a cluster.
    At(String, u16),
}

impl Wire {
    /// Connects, and hears the channel from then on.
    pub(super) async fn connect(address: &Address, channel: &str, push: OnPush) -> Result<Self, RedisError> {
        let mut wire = match &address.kind {
            Kind::Cluster => Self::Cluster(cluster(address, push).await?),
            Kind::Single => {
                let mut info = info(address, 0)?.into_connection_info()?;
                info = info.set_redis_settings(login(address));
                let client = match certificates(address)? {
                    Some(certificates) => Client::build_with_tls(info, certificates)?,
                    None => Client::open(info)?,
                };
                Self::One(client.get_multiplexed_async_connection_with_config(&config(push)).await?)
            }
            Kind::Sentinel { master } => {
                let client = sentinel(address, master)?.async_get_client().await?;
                Self::One(client.get_multiplexed_async_connection_with_config(&config(push)).await?)
            }
        };
        let mut subscribe = cmd("SUBSCRIBE");
        subscribe.arg(channel);
        wire.ask_all(&subscribe).await?;
        Ok(wire)
    }

    /// Asks the server that has the command's key.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let answer = match self {
            Self::One(connection) => connection.req_packed_command(command).await?,
            Self::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        answer.extract_error()
    }

    /// Asks several things at once; a cluster one after the other.
    pub(super) async fn ask_many(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, RedisError> {
        match self {
            Self::One(connection) => {
                let mut pipe = redis::Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipe.add_command(command.clone());
                }
                pipe.ignore_errors();
                connection.req_packed_commands(&pipe, 0, commands.len()).await
            }
            Self::Cluster(connection) => {
                let mut values = Vec::with_capacity(commands.len());
                for command in commands {
                    // One master may be gone; the others are told all the same.
                    values.push(connection.req_packed_command(command).await.unwrap_or_default());
                }
                Ok(values)
            }
        }
    }

    /// Asks every master.
    pub(super) async fn ask_all(&mut self, command: &Cmd) -> Result<Vec<Value>, RedisError> {
        match self {
            Self::One(connection) if is_subscribe(command) => {
                // Its confirmation is a message, not a reply.
                let channel = command.args_iter().nth(1).map(|arg| match arg {
                    redis::Arg::Simple(bytes) => bytes.to_vec(),
                    _ => Vec::new(),
                });
                connection.subscribe(channel.unwrap_or_default()).await?;
                Ok(Vec::new())
            }
            Self::One(connection) => Ok(vec![connection.req_packed_command(command).await?.extract_error()?]),
            Self::Cluster(connection) => {
                let policy = is_subscribe(command).then_some(ResponsePolicy::AllSucceeded);
                let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, policy));
                let answer = connection.route_command(command.clone(), routing).await?;
                Ok(match answer.extract_error()? {
                    Value::Map(pairs) => pairs.into_iter().map(|(_, value)| value).collect(),
                    value => vec![value],
                })
            }
        }
    }

    /// The servers that have keys.
    pub(super) async fn servers(&mut self) -> Result<Vec<Server>, RedisError> {
        if !self.is_cluster() {
            return Ok(vec![Server::Only]);
        }
        let slots: Vec<Vec<Value>> = redis::from_redis_value(self.ask(cmd("CLUSTER").arg("SLOTS")).await?)?;
        let mut servers = Vec::new();
        for range in slots {
            // From, to, and the master: its address, its port, and more.
            let Some(Value::Array(master)) = range.into_iter().nth(2) else { continue };
            let mut master = master.into_iter();
            let (host, port) = (master.next().unwrap_or_default(), master.next().unwrap_or_default());
            let at = Server::At(redis::from_redis_value(host)?, redis::from_redis_value(port)?);
            if !servers.contains(&at) {
                servers.push(at);
            }
        }
        Ok(servers)
    }

    /// Asks one server.
    pub(super) async fn ask_at(&mut self, server: &Server, command: &Cmd) -> Result<Value, RedisError> {
        match (self, server) {
            (Self::Cluster(connection), Server::At(host, port)) => {
                let at = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                let routing = RoutingInfo::SingleNode(at);
                connection.route_command(command.clone(), routing).await?.extract_error()
            }
            (wire, _) => wire.ask(command).await,
        }
    }

    /// Whether it is a cluster: its keys have many masters.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

fn is_subscribe(command: &Cmd) -> bool {
    matches!(command.args_iter().next(), Some(redis::Arg::Simple(b"SUBSCRIBE")))
}

/// Whether the error says that the store cannot be asked, rather than that it
/// refuses this.
pub(super) fn means_away(error: &RedisError) -> bool {
    let gone = error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
    gone || error.is_cluster_error()
        || matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "UNBLOCKED"))
}

fn config(push: OnPush) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LIMIT))
        // Each question has a limit of its own, see `link`.
        .set_response_timeout(None)
        .set_push_sender(move |info: PushInfo| {
            push(info);
            Ok::<(), ()>(())
        })
}

fn login(address: &Address) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(address.db))
        .set_lib_name("moorgate", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &address.user {
        login = login.set_username(user);
    }
    if let Some(password) = &address.password {
        login = login.set_password(password.expose());
    }
    login
}

fn info(address: &Address, at: usize) -> Result<ConnectionAddr, RedisError> {
    let host = address.hosts.get(at).ok_or((redis::ErrorKind::InvalidClientConfig, "no host"))?;
    let (name, port) = (host.name.clone(), host.port);
    Ok(match address.tls {
        true => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(name, port),
    })
}

fn certificates(address: &Address) -> Result<Option<TlsCertificates>, RedisError> {
    let Some(path) = &address.ca else { return Ok(None) };
    let root_cert = Some(fs::read(Path::new(path))?);
    Ok(Some(TlsCertificates { client_tls: None, root_cert }))
}

fn sentinel(address: &Address, master: &str) -> Result<SentinelClient, RedisError> {
    let hosts = (0..address.hosts.len()).map(|at| info(address, at)).collect::<Result<Vec<_>, _>>()?;
    let mut builder = SentinelClientBuilder::new(hosts, master, SentinelServerType::Master)?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_db(i64::from(address.db));
    if let Some(user) = &address.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &address.password {
        builder = builder.set_client_to_redis_password(password.expose());
    }
    if let Some(user) = &address.sentinel_user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = address.sentinel_password.as_ref().map(Secret::expose) {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if address.tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates(address)? {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
    }
    builder.build()
}

async fn cluster(address: &Address, push: OnPush) -> Result<ClusterConnection, RedisError> {
    let hosts = (0..address.hosts.len())
        .map(|at| Ok(info(address, at)?.into_connection_info()?.set_redis_settings(login(address))))
        .collect::<Result<Vec<ConnectionInfo>, RedisError>>()?;
    let mut builder = ClusterClientBuilder::new(hosts)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(LIMIT)
        .response_timeout(LIMIT)
        // A try more for a slot that has moved; what is gone is told at once.
        .retries(1)
        .min_retry_wait(1)
        .max_retry_wait(20)
        .push_sender(move |info: PushInfo| {
            push(info);
            Ok::<(), ()>(())
        });
    if let Some(user) = &address.user {
        builder = builder.username(user);
    }
    if let Some(password) = &address.password {
        builder = builder.password(password.expose());
    }
    if address.tls {
        builder = builder.tls(TlsMode::Secure);
        if let Some(certificates) = certificates(address)? {
            builder = builder.certs(certificates);
        }
    }
    builder.build()?.get_async_connection().await
}
