// Written by the generator of `ir-specs` from `*.toml`. Do not edit.
//! Every example, constraint and rule of the spec tables, tried, from `ir-specs/*.toml`.

mod generated;
