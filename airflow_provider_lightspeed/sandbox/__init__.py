"""A local shop that speaks the API of Lightspeed eCom, for demos and for tests of your own DAGs.

It knows nothing of the provider's client: it is written from the API's documents alone.
"""

from airflow_provider_lightspeed.sandbox.backend import ShopBackend
from airflow_provider_lightspeed.sandbox.calls import Call
from airflow_provider_lightspeed.sandbox.config import NO_LIMITS, Churn, Order, ShopConfig
from airflow_provider_lightspeed.sandbox.distortions import Distortions
from airflow_provider_lightspeed.sandbox.faults import Fault, FaultKind
from airflow_provider_lightspeed.sandbox.remote import SandboxControl
from airflow_provider_lightspeed.sandbox.server import Sandbox
from airflow_provider_lightspeed.sandbox.shop import Change, Query, Shop
from airflow_provider_lightspeed.sandbox.tickets import email_of

__all__ = [
    "NO_LIMITS",
    "Call",
    "Change",
    "Churn",
    "Distortions",
    "Fault",
    "FaultKind",
    "Order",
    "Query",
    "Sandbox",
    "SandboxControl",
    "Shop",
    "ShopBackend",
    "ShopConfig",
    "email_of",
]
