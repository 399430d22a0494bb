//! What Debian has of other proxies.
//!
//! nginx and HAProxy forward to one backend for each listener; they run one
//! thread, which is the least that they cost.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{SECRET, USER, write};
use crate::origin::Service;

/// The first number that a program tells of itself.
pub(super) fn version(program: &str, flag: &str, before: char) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let first = text.lines().next()?;
    let mut words = first.split([before, ' ']);
    let word = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(word.split('-').next().unwrap_or(word).to_owned())
}

/// Where Debian's libnginx-mod-stream has it.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Whether nginx can relay what is not HTTP.
pub(super) fn nginx_relays() -> bool {
    Path::new(STREAM).exists()
}

pub(super) fn nginx(folder: &Path, addresses: [SocketAddr; 4], origins: [SocketAddr; 4]) -> Command {
    let http = Service::Http as usize;
    let module = if nginx_relays() { format!("load_module {STREAM};\n") } else { String::new() };
    let relays: String = (0..4)
        .filter(|at| *at != http && nginx_relays())
        .map(|at| {
            format!(
                "  server {{ listen {} backlog=1024; proxy_pass {}; tcp_nodelay on; }}\n",
                addresses[at], origins[at]
            )
        })
        .collect();
    let relays = if nginx_relays() { format!("stream {{\n  access_log off;\n{relays}}}\n") } else { relays };
    let text = format!(
        "{module}daemon off;\nworker_processes 1;\npid {0}/pid;\nerror_log {0}/error crit;\n\
         worker_rlimit_nofile 20000;\nevents {{ worker_connections 19900; }}\n{relays}\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  client_body_temp_path {0}/body;\n\
         proxy_temp_path {0}/proxy;\n  fastcgi_temp_path {0}/f;\n  uwsgi_temp_path {0}/u;\n  scgi_temp_path {0}/s;\n\
         client_body_buffer_size 128k;\n  proxy_buffers 16 8k;\n\
         upstream origin {{ server {1}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{ listen {2}; location / {{ proxy_pass http://origin; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; }} }}\n}}\n",
        folder.display(),
        origins[http],
        addresses[http]
    );
    let config = folder.join("nginx.conf");
    write(&config, &text);
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(config);
    command
}

pub(super) fn haproxy(folder: &Path, addresses: [SocketAddr; 4], origins: [SocketAddr; 4]) -> Command {
    let mut text = "global\n  nbthread 1\n  maxconn 9400\n  maxpipes 256\ndefaults\n  timeout connect 5s\n  timeout client 10m\n  \
                    timeout server 10m\n  option splice-auto\n"
        .to_owned();
    for (at, (address, origin)) in addresses.into_iter().zip(origins).enumerate() {
        let mode = if at == Service::Http as usize { "http\n  http-reuse always" } else { "tcp" };
        text.push_str(&format!(
            "listen l{at}\n  mode {mode}\n  maxconn 9400\n  bind {address}\n  server s {origin}\n"
        ));
    }
    let config = folder.join("haproxy.cfg");
    write(&config, &text);
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(config);
    command
}

pub(super) fn squid(folder: &Path, address: SocketAddr) -> Command {
    // Its helper that takes any secret is the cheapest of those that ship.
    let text = format!(
        "http_port {address}\n\
         auth_param basic program /usr/lib/squid/basic_fake_auth\n\
         auth_param basic credentialsttl 2 hours\n\
         acl known proxy_auth REQUIRED\n\
         http_access allow known\n\
         cache deny all\n\
         access_log none\n\
         cache_store_log none\n\
         cache_log /dev/null\n\
         pid_filename none\n\
         pinger_enable off\n\
         via off\n\
         forwarded_for delete\n\
         visible_hostname bench\n\
         max_filedescriptors 19900\n\
         shutdown_lifetime 0 seconds\n"
    );
    let config = folder.join("squid.conf");
    write(&config, &text);
    let mut command = Command::new("squid");
    command.arg("-N").arg("-f").arg(config);
    command
}

pub(super) fn tinyproxy(folder: &Path, address: SocketAddr) -> Command {
    let text = format!(
        "Port {}\n\
         Listen {}\n\
         Timeout 600\n\
         MaxClients 10000\n\
         LogLevel Critical\n\
         DisableViaHeader Yes\n\
         BasicAuth {USER} {SECRET}\n",
        address.port(),
        address.ip()
    );
    let config = folder.join("tinyproxy.conf");
    write(&config, &text);
    let mut command = Command::new("tinyproxy");
    command.arg("-d").arg("-c").arg(config);
    command
}
