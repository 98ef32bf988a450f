// An agent that logs with pino as LiveKit's Node worker does, and drains when it is told to end.
import pino from "pino";

const logger = pino();
let turn = 0;

logger.info({ version: process.version }, "starting worker");
const work = setInterval(() => logger.info({ job_id: "AJ_example", turn: ++turn }, "turn"), 1000);

process.once("SIGTERM", () => {
  logger.info("draining worker");
  clearInterval(work);
  setTimeout(() => {
    console.error("the last call has ended");
    logger.info("worker closed");
    process.exitCode = 143;
  }, 2000);
});
