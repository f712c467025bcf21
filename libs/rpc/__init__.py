"""What every gRPC server of ours does: errors, deadlines, tenants, pages, health and drain."""
