"""What the HTTP services share: endpoints with their OpenAPI document, problems, events, metrics, sockets."""
