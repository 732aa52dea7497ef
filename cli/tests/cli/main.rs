//! The built `tern` program, run as a user runs it.

mod bench;
mod build;
mod cache;
mod chat;
mod commands;
mod embed;
mod endings;
mod export;
mod hub;
mod ladder;
mod native;
mod pull;
mod pull_env;
mod quantize;
mod rebuild;
mod refusals;
mod support;
mod synth;
mod tune;
