//! Sockets, TLS, names and socket options.
