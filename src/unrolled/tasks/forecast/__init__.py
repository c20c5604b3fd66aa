"""The forecast task: numbers that come some steps later, with the range that they are likely in."""

from unrolled.tasks.forecast.data import ForecastOptions
from unrolled.tasks.forecast.model import ForecastModel
from unrolled.tasks.forecast.task import ForecastTask

__all__ = ["ForecastModel", "ForecastOptions", "ForecastTask"]
