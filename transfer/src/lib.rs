//! Moves volumes: one-time credentials, routes, the wire, the pipeline, the endpoint
