//! The HTTP API over the unix socket that the command line uses
