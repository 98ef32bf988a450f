// An agent that logs with pino as LiveKit's Node worker does, and drains when it is told to end: the call under way goes
// on for DRAIN seconds, then the status is 143, as LiveKit's is.
import pino from "pino";

const drain = Number(process.env.DRAIN ?? 2);
const logger = pino();
let turn = 0;

logger.info({ version: process.version }, "starting worker");
const work = setInterval(() => logger.info({ jobId: "AJ_example" }, `turn ${++turn}`), 1000);

process.once("SIGTERM", () => {
  logger.info("draining worker");
  setTimeout(() => {
    clearInterval(work);
    console.error("the last call has ended");
    logger.info("worker closed");
    process.exitCode = 143;
  }, drain * 1000);
});
